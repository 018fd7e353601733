"""A new input format is one file, and one word where the formats are listed."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from foreign import SHAPE, voxels
from runs import ROOT, environment, measured, settings, snakemake

from emgen.geometry import Box
from emgen.volumes.sources import formats
from emgen.volumes.volume import Volume

TOY = '''"""Toy format: a line of text with shape and voxel size, then bytes."""

from pathlib import Path

import numpy as np

from emgen.geometry import VoxelSize, zyx
from emgen.volumes.sources.foreign import ForeignVolume, sliced

NAME, CONTAINER = "TOY", False


def recognises(path):
    return path.endswith(".toy")


def open_volume(path, dataset, resources):
    line, _, rest = Path(path).read_bytes().partition(b"\\n")
    z, y, x, *size = map(float, line.split())
    shape = zyx([int(z), int(y), int(x)])
    data = np.frombuffer(rest, np.uint8).reshape(shape)
    return ForeignVolume(path, shape, data.dtype, VoxelSize(*size), sliced(data))
'''


def toy(path: Path, data: np.ndarray, voxel: tuple[float, ...] = (40, 4, 5)) -> Path:
    head = " ".join(map(str, (*data.shape, *voxel)))
    path.write_bytes(head.encode() + b"\n" + data.astype(np.uint8).tobytes())
    return path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package with one more file and one more word."""
    copy = tmp_path / "package"
    shutil.copytree(
        ROOT / "emgen",
        copy / "emgen",
        copy_function=lambda file, link: Path(link).symlink_to(file),
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    sources = copy / "emgen/volumes/sources"
    (sources / "toy.py").write_text(TOY)
    listed = (sources / "__init__.py").read_text()
    (sources / "__init__.py").unlink()
    with_toy = listed.replace('FORMATS = ("hdf5", ', 'FORMATS = ("toy", "hdf5", ')
    assert with_toy != listed
    (sources / "__init__.py").write_text(with_toy)
    return copy


def imported(package: Path, source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """`emgen import` of that copy."""
    return subprocess.run(
        [sys.executable, "-m", "emgen.cli", "import", str(source), str(target)],
        capture_output=True,
        text=True,
        env={**environment(), "PYTHONPATH": str(package)},
        cwd=package,
        check=False,
    )


def test_a_format_is_one_file_and_one_word(tmp_path: Path, package: Path) -> None:
    done = imported(package, toy(tmp_path / "a.toy", voxels()), tmp_path / "a.ome.zarr")
    assert done.returncode == 0, done.stderr
    volume = Volume.open(tmp_path / "a.ome.zarr")
    assert tuple(volume.voxel) == (40, 4, 5)
    np.testing.assert_array_equal(volume.read(Box.whole(SHAPE)), voxels())


def test_a_new_format_is_named_where_another_is_not_known(tmp_path: Path, package: Path) -> None:
    (tmp_path / "a.czi").write_text("")
    done = imported(package, tmp_path / "a.czi", tmp_path / "a.ome.zarr")
    assert done.returncode == 2 and "it reads TOY, HDF5, N5" in " ".join(done.stderr.split())


@pytest.mark.slow
def test_a_new_format_goes_through_the_workflow_to_the_report(
    tmp_path: Path, package: Path
) -> None:
    real = Volume.open(measured(tmp_path))
    stack = toy(tmp_path / "a.toy", real.read(Box.whole(real.shape)), tuple(real.voxel))
    assert imported(package, stack, tmp_path / "a.ome.zarr").returncode == 0
    done = snakemake(tmp_path, settings(tmp_path / "a.ome.zarr"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results/small/report.html").stat().st_size > 10_000


@pytest.mark.parametrize("name", formats())
def test_a_format_has_what_its_protocol_says(name: str) -> None:
    module = formats()[name]
    assert module.NAME and isinstance(module.CONTAINER, bool)
    assert callable(module.recognises) and callable(module.open_volume)
    assert not module.recognises("https://example.org/a.unknown")
