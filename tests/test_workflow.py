"""The workflow through Snakemake: what comes out, how it is divided, how it goes on, what it refuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from runs import ROOT, command, environment, measured, read, settings, snakemake

from emgen.arrays import isotropic
from emgen.geometry import Box
from emgen.volumes.volume import Volume

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("input"))


@pytest.fixture(scope="module")
def finished(volume, tmp_path_factory):
    """A complete run with a reference, QC and report."""
    folder = tmp_path_factory.mktemp("run")
    whole = Volume.open(ROOT / "demo/reference.ome.zarr")
    reference = folder / "reference.ome.zarr"
    target = Volume.create(
        reference, (36, 40, 40), "uint8", whole.voxel, chunk=(36, 40, 40), shard=(36, 40, 40)
    )
    target.write(Box.whole((36, 40, 40)), whole.read(Box((0, 30, 40), (36, 70, 80))))
    config = settings(volume, qc={"reference": str(reference)})
    done = snakemake(folder, config)
    assert done.returncode == 0, done.stderr
    return folder, config


def test_every_promised_output_is_there(finished):
    run = finished[0] / "results/small"
    for name in (
        "report.html",
        "qc/summary.json",
        "provenance/run.json",
        "provenance/ro-crate-metadata.json",
    ):
        assert (run / name).stat().st_size > 500, name
    volume = Volume.open(run / "restored.ome.zarr")
    assert volume.shape == (36, 40, 40) and tuple(volume.voxel) == (8, 8, 8)
    facts = json.loads((run / "provenance/run.json").read_text())
    assert facts["key"] == volume.attributes["emgen"]["key"]
    assert facts["restore"]["blocks"] == 18
    for rule in ("plan", "restore/0", "restore/4", "stitch/0", "fsc", "segmentation", "report"):
        assert (run / f"logs/{rule}.log").exists() and (run / f"benchmarks/{rule}.tsv").exists(), (
            rule
        )


def test_a_second_run_finds_nothing_to_do(finished):
    folder, config = finished
    done = snakemake(folder, config)
    assert done.returncode == 0 and "Nothing to be done" in done.stderr


def test_the_workflow_gives_the_voxels_of_the_package_for_another_division(
    volume, finished, tmp_path
):
    from runs import restore

    _, voxels = restore(tmp_path, settings(volume, grid={"blocks_per_job": 7}))
    assert (voxels == read(finished[0] / "results/small")).all()


def test_several_samples_give_their_spread_as_the_package_calibrates_it(volume, tmp_path):
    config = settings(volume, restore={"steps": 1, "samples": 2})
    done = snakemake(tmp_path, config)
    assert done.returncode == 0, done.stderr
    run, measured = tmp_path / "results/small", Volume.open(volume)
    spread = Volume.open(run / "uncertainty.ome.zarr")
    voxels = measured.read(Box.whole(measured.shape))
    expected = isotropic(
        voxels, 6, steps=1, samples=2, block=(16, 16, 32), halo=(6, 6, 8), workers=1
    )
    assert (read(run) == expected.mean).all()
    assert (spread.read(Box.whole(spread.shape)) == expected.std).all()
    found = json.loads((run / "qc/summary.json").read_text())["uncertainty"]["calibration"]
    assert found == json.loads((run / "calibration.json").read_text())
    assert found["factor"] > 1 and found["crops"] == 2
    assert f"times {found['factor']:.2f}" in (run / "report.html").read_text()


def test_other_settings_are_refused_and_nothing_is_overwritten(volume, finished):
    folder, _ = finished
    before = read(folder / "results/small")
    done = snakemake(folder, settings(volume, restore={"steps": 2}))
    assert done.returncode != 0 and "restore.steps was 3, now 2" in done.stderr
    assert (read(folder / "results/small") == before).all()


def done_blocks(run) -> list[int]:
    """Numbers of the blocks that the first two jobs have done."""
    lines = [path.read_bytes() for path in (run / "ledger/blocks").glob("*.jsonl")]
    return [json.loads(line)["unit"] for text in lines for line in text.split(b"\n")[:-1]]


def test_a_run_killed_in_the_middle_goes_on_and_gives_the_same_voxels(volume, finished, tmp_path):
    config = settings(volume, grid={"blocks_per_job": 9})
    run = tmp_path / "results/small"
    target = "results/small/restored.json"
    process = subprocess.Popen(
        command(tmp_path, config, target),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    blocks = run / "blocks/0-999.zarr/mean"
    for _ in range(3000):
        if len(done_blocks(run)) >= 2:
            break
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = done_blocks(run)
    assert len(done) < 9 and not (run / "blocks/0.json").exists()
    kept = {path: path.stat().st_mtime_ns for index in done for path in blocks.glob(f"c.{index}.*")}
    subprocess.run(
        command(tmp_path, config, "--unlock"), env=environment(), check=True, capture_output=True
    )
    done = snakemake(tmp_path, config, target, "--rerun-incomplete")
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "blocks/0.json").read_text())["found"] >= 2
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert (read(run) == read(finished[0] / "results/small")).all()


def run_until(folder, config, condition):
    """`emgen run`, begun as a process, until something is there."""
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(config))
    words = [sys.executable, "-m", "emgen.cli", "run", str(path), "--cores", "1"]
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=environment() | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not condition() and process.poll() is None:
        time.sleep(0.02)
    return process, words


@pytest.mark.slow
def test_a_head_that_is_killed_leaves_nothing_to_unlock(volume, finished, tmp_path):
    config, run = settings(volume), tmp_path / "results/small"
    target = ["results/small/restored.json"]
    process, words = run_until(tmp_path, config, lambda: list(run.glob("blocks/*.zarr/mean/c.2.*")))
    # beside a living one nothing starts, with Snakemake alone neither; a stopped process lives
    head = json.loads((run / "running.lease").read_text())["pid"]
    try:
        os.kill(head, signal.SIGSTOP)
        second = snakemake(tmp_path, config, "--nolock", "--rerun-incomplete", *target)
    finally:
        os.kill(head, signal.SIGCONT)
        process.kill()
        process.wait()
    assert second.returncode != 0 and "is being worked on by process" in second.stderr
    more = {"cwd": tmp_path, "env": environment() | {"PYTHONPATH": str(ROOT)}}
    done = subprocess.run([*words, *target], capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stderr
    assert (read(run) == read(finished[0] / "results/small")).all()
    assert not list(run.rglob("*.lease"))


@pytest.mark.slow
def test_a_plan_that_is_lost_while_other_quality_is_asked_for_restores_nothing(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder, symlinks=True)
    run, qc = folder / "results/small", finished[1]["qc"]
    before = (run / "plan.json").read_text()
    (run / "plan.json").write_text(before[:1000])
    done = snakemake(
        folder, finished[1] | {"qc": {**qc, "tiles": 3}}, "results/small/qc/seams.json"
    )
    assert done.returncode == 0, done.stderr
    assert "Restoring" not in done.stderr and "Stitching" not in done.stderr
    assert (run / "plan.json").read_text() == before


@pytest.mark.slow
def test_what_was_damaged_is_made_again_and_nothing_else(finished, tmp_path):
    folder, target = tmp_path / "run", "results/small/restored.json"
    shutil.copytree(finished[0], folder, symlinks=True)
    run, config = folder / "results/small", finished[1]
    block = run / "blocks/0-999.zarr/mean/c.5.0.0.0"
    shard = next(
        path for path in sorted((run / "restored.ome.zarr/0/c").rglob("*")) if path.is_file()
    )
    block.write_bytes(block.read_bytes()[:-1] + b"x")
    shard.write_bytes(b"")
    (run / "stitch/2.json").write_text("{")
    (run / "restored.ome.zarr/0/zarr.json").write_text("{")
    kept = {n: (run / f"blocks/{n}.json").read_text() for n in (0, 2, 3, 4)}
    dry = snakemake(folder, config, target, "--dry-run")
    done = snakemake(folder, config, target)
    assert done.returncode == 0, done.stderr
    for said in (dry.stderr, done.stderr):
        assert f"{block.relative_to(folder)} holds other bytes than were written" in said
        assert f"{shard.relative_to(folder)} has 0 bytes instead of" in said
    assert (read(run) == read(finished[0] / "results/small")).all()
    assert json.loads((run / "blocks/1.json").read_text())["found"] == 3
    assert kept == {n: (run / f"blocks/{n}.json").read_text() for n in kept}
    shutil.rmtree(run / "blocks")  # as the documentation allows
    again = snakemake(folder, config, target)
    assert again.returncode == 0 and "Nothing to be done" in again.stderr


def test_other_cores_give_the_same_voxels(volume, finished, tmp_path):
    done = snakemake(tmp_path, settings(volume), "results/small/restored.json", "--cores", "1")
    assert done.returncode == 0, done.stderr
    assert (read(tmp_path / "results/small") == read(finished[0] / "results/small")).all()


def test_dry_run_lint_and_report_are_clean(finished):
    folder, config = finished
    dry = snakemake(folder, config, "--dry-run", "--forceall")
    assert dry.returncode == 0 and "rror" not in dry.stderr
    lint = snakemake(folder, config, "--lint")
    assert lint.returncode == 0, lint.stderr
    report = snakemake(folder, config, "--report", "report.zip")
    assert report.returncode == 0 and (folder / "report.zip").stat().st_size > 10_000, report.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"restore": {"stepz": 3}}, "restore.stepz: there is no such key; did you mean `steps`"),
        ({"restore": {"steps": "many"}}, "restore.steps"),
        ({"input": {"volume": "nowhere.ome.zarr"}}, "there is no volume at nowhere.ome.zarr"),
        ({"grid": {"halo": [6, 6, 64]}}, "must not be larger than the block"),
        ({"grid": {"block": [16, 16, 24]}}, "whole multiples of the write unit"),
        ({"restore": {"prior": "missing.safetensors"}}, "missing.safetensors"),
        ({"qc": {"reference": "DEMO"}}, "qc.reference"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_settings_end_the_run_before_any_work(volume, tmp_path, change, words):
    if change.get("qc"):
        change = {"qc": {"reference": str(ROOT / "demo/reference.ome.zarr")}}
    done = snakemake(tmp_path, settings(volume, **change))
    assert done.returncode != 0
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("snakefile", "succeeds", "words"),
    [
        ("Snakefile", False, "there is no configuration; give one"),
        ("benchmarks/Snakefile", True, "benchmarks/figures/13.png"),
    ],
)
def test_without_a_configuration_only_figures_are_drawn(tmp_path, snakefile, succeeds, words):
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / snakefile)]
    command += ["--directory", str(tmp_path), "--workflow-profile", "none", "--cores", "1"]
    more = {"capture_output": True, "text": True, "env": environment(), "check": False}
    done = subprocess.run([*command, "--dry-run"], **more)
    assert (done.returncode == 0) == succeeds, done.stderr
    assert words in done.stdout + done.stderr


def test_a_blur_that_nobody_knows_is_fitted_before_the_plan(volume, tmp_path):
    wide = {
        "grid": {"block": [6, 48, 48], "halo": [0, 8, 8]},
        "output": {"shard": [6, 48, 48], "chunk": [6, 48, 48]},
    }
    config = settings(
        measured(tmp_path, Box((0, 0, 0), (6, 60, 60)), "wide"),
        restore={"mode": "deblur", "psf": "blind", "steps": 1},
        **wide,
    )
    done = snakemake(tmp_path, config, "results/small/planned.json")
    assert done.returncode == 0, done.stderr
    fitted = json.loads((tmp_path / "results/small/psf.json").read_text())
    plan = json.loads((tmp_path / "results/small/plan.json").read_text())
    assert plan["psf"] == fitted["kernel"] and min(fitted["sigma"]) > 0
    assert np.sum(plan["psf"]) == pytest.approx(1)


@pytest.mark.parametrize("value", [7, float("nan")])
def test_input_that_holds_nothing_ends_the_run_with_one_message(tmp_path, value):
    volume = measured(
        tmp_path, dtype="float32", change=lambda voxels: np.full(voxels.shape, value, np.float32)
    )
    done = snakemake(tmp_path, settings(volume))
    assert done.returncode != 0 and "There is no tissue" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results/small/restored.ome.zarr").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk can only be mounted by root")
def test_a_disk_that_fills_up_ends_the_run_and_loses_nothing(volume, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr}")
    try:
        done = snakemake(disk, settings(volume))
        assert done.returncode != 0 and "No space left on device" in done.stderr + done.stdout
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
def test_settings_that_are_a_program_make_no_result_where_snakemake_has_run_it(volume, tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(
        "__use_yte__: true\nrun: small\ninput:\n  volume: ?str(" + repr(str(volume)) + ")\n"
    )
    done = snakemake(tmp_path, path, "--dry-run")
    assert done.returncode and "may run code" in done.stderr + done.stdout
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_password_in_an_address_reaches_no_file(tmp_path):
    config = settings("https://me:SECRET@localhost/a.ome.zarr")
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump(config))
    done = snakemake(tmp_path, path)
    assert done.returncode and "SECRET" not in done.stderr + done.stdout
    held = [file for file in tmp_path.rglob("*") if file.is_file() and file != path]
    assert not [file for file in held if b"SECRET" in file.read_bytes()]
