"""The command: exit codes, one message, nothing left behind; called and as its own process."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from emgen.cli.main import main
from emgen.geometry import Box, VoxelSize, Zyx
from emgen.volumes import pyramid
from emgen.volumes.volume import Volume

Array = npt.NDArray[Any]
SHAPE = (40, 70, 45)
LAYOUT = ["--chunk", "8,16,16", "--shard", "16,32,32"]


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    tifffile.imwrite(
        tmp_path / "a.tif", np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.uint8)
    )
    return tmp_path / "a.tif"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "a.ome.zarr"


def test_import_makes_the_volume_and_says_what_it_made(
    stack: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(stack), str(target), "--voxel-size", "40,4,4", *LAYOUT]) == 0
    volume = Volume.open(target)
    assert (volume.shape, volume.voxel, volume.write_unit) == (
        SHAPE,
        VoxelSize(40, 4, 4),
        (16, 32, 32),
    )
    np.testing.assert_array_equal(volume.read(Box.whole(SHAPE)), tifffile.imread(stack))
    out, err = capsys.readouterr()
    assert "40 x 70 x 45 voxels (z, y, x) of uint8, 40 x 4 x 4 nm (z, y, x)" in out
    # no terminal: plain lines, and not one for every shard
    lines = err.splitlines()
    assert 2 <= len(lines) <= 10 and re.fullmatch(
        r"emgen: import 100 %, [\d.]+ Mvoxel/s", lines[-1]
    )


def test_the_options_reach_the_import(stack: Path, target: Path) -> None:
    assert (
        main(["import", str(stack), str(target), "--voxel-size", "8", "--ngff", "0.4", "--label"])
        == 0
    )
    assert (target / ".zattrs").exists() and Volume.open(target).levels == ("0",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{stack}", "{target}"], "does not say how large its voxels are"),
        (["{stack}.missing", "{target}"], "there is nothing at"),
        (["{stack}", "{stack}", "--voxel-size", "8"], "must be named like data.ome.zarr"),
        (
            ["{stack}", "{target}", "--voxel-size", "8", "--dataset", "a"],
            "--dataset is for HDF5, N5 and precomputed",
        ),
        (["{stack}", "{target}", "--voxel-size", "8", "--shard", "100,128,128"], "whole multiples"),
    ],
)
def test_an_error_is_one_message_and_exit_code_2(
    stack: Path,
    target: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    words = [word.format(stack=stack, target=target) for word in arguments]
    assert main(["import", *words]) == 2
    out, err = capsys.readouterr()
    assert (
        out == ""
        and err.startswith("emgen: error: ")
        and message in err
        and len(err.splitlines()) == 1
    )
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--voxel-size", "40,4"], 'expected a voxel size "z,y,x" in nm'),
        (["--voxel-size", "40,4,-4"], "voxel size along x must be a positive number"),
        (["--chunk", "64,64"], "expected three whole numbers z,y,x"),
        (["--ngff", "0.6"], "invalid choice"),
    ],
)
def test_arguments_of_the_wrong_kind(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["import", "a.tif", "a.ome.zarr", *arguments])
    assert message in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["--version"], ["import", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            main(words)
        assert "emgen" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main([])


def test_ctrl_c_inside_is_130(stack: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Volume, "write", interrupt)
    assert main(["import", str(stack), str(target), "--voxel-size", "8"]) == 130
    assert list(target.parent.iterdir()) == [] and signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_while_levels_are_made_leaves_nothing(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(voxels: Array, step: Zyx) -> Array:
        if not calls:
            calls.append(step)
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        return downsample(voxels, step)

    calls: list[Zyx] = []
    downsample = pyramid.downsample
    monkeypatch.setattr(pyramid, "downsample", interrupted)
    tifffile.imwrite(tmp_path / "a.tif", np.ones((20, 300, 40), np.uint8))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command = ["import", str(tmp_path / "a.tif"), str(target), "--voxel-size", "8"]
        assert main([*command, *LAYOUT]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    time.sleep(0.5)
    assert list(target.parent.iterdir()) == []


def _default_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_is_stopped_leaves_nothing(
    tmp_path: Path, target: Path, sent: signal.Signals, code: int
) -> None:
    # noise in many small write units: a while of work, of which a tenth is awaited
    section = np.random.default_rng(0).integers(0, 255, (512, 512), np.uint8)
    tifffile.imwrite(
        tmp_path / "big.tif", np.broadcast_to(section, (320, 512, 512)), photometric="minisblack"
    )
    command = [
        sys.executable,
        "-m",
        "emgen.cli",
        "import",
        str(tmp_path / "big.tif"),
        str(target),
    ]
    layout = ["--voxel-size", "8", "--chunk", "16,16,16", "--shard", "32,32,32"]
    # a test run in the background of a shell would hand on that Ctrl-C is ignored
    with subprocess.Popen(
        [*command, *layout], stderr=subprocess.PIPE, text=True, preexec_fn=_default_interrupt
    ) as process:
        assert process.stderr is not None and "10 %" in process.stderr.readline()
        assert [path.suffix for path in target.parent.iterdir()] == [".partial"]
        process.send_signal(sent)
        _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in err
    assert list(target.parent.iterdir()) == []


def test_a_terminal_sees_a_bar(stack: Path, target: Path) -> None:
    master, slave = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "emgen.cli",
        "import",
        str(stack),
        str(target),
        "--voxel-size",
        "8",
    ]
    process = subprocess.run(
        command,
        stderr=slave,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm"},
        check=True,
    )
    os.close(slave)
    seen = os.read(master, 100_000).decode()
    os.close(master)
    assert "100%" in seen and "Mvoxel/s" in seen
    assert process.returncode == 0
