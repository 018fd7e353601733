"""Training a prior: the loop, what it leaves behind, and what may go wrong."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from recipes import made, written
from runs import ROOT, snakemake

from emgen.cli.main import main
from emgen.errors import EmgenError
from emgen.networks.checkpoint import load
from emgen.training import progress, validation
from emgen.training.launch import launcher
from emgen.training.loop import step, train
from emgen.training.recipe import Recipe
from emgen.training.run import Run
from emgen.training.state import State
from emgen.training.tasks import prior

TRAIN = str(ROOT / "workflow/train.smk")


@pytest.fixture(autouse=True)
def small_sheets(monkeypatch):
    monkeypatch.setattr(prior, "SAMPLE_STEPS", 2)
    monkeypatch.setattr(prior, "SAMPLE_SIZE", 16)


def weights(folder):
    return (folder / "checkpoint.safetensors").read_bytes()


def test_sources_count_alike_whatever_their_noise():
    found = {
        "a": dict.fromkeys(map(str, validation.TIMES), 20.0),
        "b": dict.fromkeys(map(str, validation.TIMES), 30.0),
    }
    assert validation.score(found) == 25 and set(validation.mean(found).values()) == {25}
    del found["b"]["0.95"]  # too noisy to tell
    assert validation.mean(found)["0.95"] == 20 and validation.mean(found)["0.9"] == 25
    assert validation.score(found) == 25


@pytest.mark.parametrize("method", ["adam", "muon"])
@pytest.mark.parametrize("coupling", ["independent", "optimal-transport"])
def test_training_learns(tissue, method, coupling):
    settings = {"method": method, "steps": 60}
    found = made(tissue, optimiser=settings, task={"kind": "prior", "coupling": coupling})
    run = Run.open(found, tissue / "run")
    state = State.new(found, run.architecture)
    losses = [float(step(run, state, state.prior, run.batch(k))) for k in range(60)]
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:5])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"optimiser": {"method": "muon"}},
        {"precision": "bfloat16"},
        {"network": {"dropout": 0.2}, "task": {"kind": "prior", "coupling": "optimal-transport"}},
    ],
)
def test_a_resumed_run_is_the_same_bit_for_bit(tissue, tmp_path, capsys, change):
    torch.set_num_threads(1)
    more = change.get("optimiser", {})
    long = {**change, "optimiser": {**more, "steps": 6}}
    short = {**change, "optimiser": {**more, "steps": 3}}
    whole = train(made(tissue, **long), tmp_path / "whole")
    train(made(tissue, **short), tmp_path / "parts")
    assert "going on from step 3" not in capsys.readouterr().out
    train(made(tissue, **long), tmp_path / "parts")
    assert "going on from step 3" in capsys.readouterr().out
    whole_state, parts = (load_tensors(tmp_path / name) for name in ("whole", "parts"))
    # the best so far was also looked for after step 3
    assert {k for k in whole_state if not torch.equal(whole_state[k], parts[k])} <= {"best"}
    assert len(whole_state) == len(parts)
    assert whole.facts["steps"] == 6
    assert [line["step"] for line in progress.read(tmp_path / "parts")] == [3, 6]


def test_weights_are_chosen_by_validation_and_not_by_loss(tissue, tmp_path, monkeypatch):
    scores = iter([10.0, 30.0, 20.0])
    monkeypatch.setattr(
        validation,
        "denoise_psnr",
        lambda *_: dict.fromkeys(map(str, validation.TIMES), next(scores)),
    )
    monkeypatch.setattr(progress, "draw_samples", lambda *_: None)
    card = train(made(tissue, optimiser={"steps": 3}, checkpoint_minutes=1e-9), tmp_path / "run")
    assert [line["step"] for line in progress.read(tmp_path / "run")] == [1, 2, 3]
    assert card.facts["steps"] == 2


def test_the_card_tells_data_validation_and_scaling_but_no_folders(tissue, tmp_path):
    sources = [{"path": "a.tif", "voxel_size_nm": 8, "sections": (0, 12), "credit": "me"}]
    card = train(made(tissue, note="made up", sources=sources), tmp_path / "run")
    facts = card.facts
    assert (facts["data"], facts["validation"]) == (["a.tif[0:12]"], ["b.tif"])
    assert (facts["credits"], facts["note"]) == (["me"], "made up")
    assert facts["voxel_size_nm"] == {"a.tif[0:12]": [8, 8, 8]}
    low, high = facts["grey_values"]["a.tif[0:12]"]
    assert 0 <= low < high <= 255
    assert str(tissue) not in card.path.with_suffix(".json").read_text()
    assert "noise_grey_values" not in facts


def test_clean_and_noisy_tissue_are_validated_on_together_and_the_card_says_which(tissue, tmp_path):
    found = made(
        tissue,
        sources=[{"path": "a.tif", "voxel_size_nm": 8, "sections": s} for s in ((0, 9), (9, 12))],
        validation=[
            {"path": "a.tif", "voxel_size_nm": 8, "sections": (12, 20), "noise": 12},
            {"path": "b.tif", "voxel_size_nm": 8},
        ],
        patches={"zoom": (1, 1)},
    )
    facts = train(found, tmp_path / "run").facts
    assert facts["noise_grey_values"] == {"a.tif[12:20]": 12}
    judged = facts["validation_denoise_psnr_db_by_source"]
    assert len(judged["a.tif[12:20]"]) < len(judged["b.tif"])
    assert train(found, tmp_path / "run").facts == facts


def test_it_leaves_curves_samples_and_kept_averages(tissue, tmp_path):
    train(made(tissue, keep=True), tmp_path / "run")
    for name in ("curves.png", "samples.png"):
        assert (tmp_path / "run" / name).read_bytes()[:4] == b"\x89PNG"
    (kept,) = (tmp_path / "run/averages").glob("*.safetensors")
    assert load(str(kept))[1].facts["steps"] == 6


def test_weights_that_were_removed_come_back(tissue, tmp_path):
    train(made(tissue), tmp_path / "run")
    (tmp_path / "run/p.safetensors").unlink()
    assert train(made(tissue), tmp_path / "run").facts["steps"] == 6


def test_better_weights_are_never_replaced_by_worse_ones(tissue, tmp_path):
    """Also where the checkpoint that belongs to them was never written."""
    run = tmp_path / "run"
    train(made(tissue), run)
    before = (run / "checkpoint.safetensors").read_bytes()
    better = train(made(tissue, optimiser={"steps": 12}), run)
    (run / "checkpoint.safetensors").write_bytes(before)
    assert train(made(tissue, optimiser={"steps": 7}), run).sha256 == better.sha256


def test_another_run_is_refused(tissue, tmp_path):
    run = tmp_path / "run"
    train(made(tissue), run)
    with pytest.raises(EmgenError, match="another training run: seed"):
        train(made(tissue, seed=1), run)
    tifffile.imwrite(tissue / "a.tif", 255 - tifffile.imread(tissue / "a.tif"))
    with pytest.raises(EmgenError, match="another training run: voxels"):
        train(made(tissue), run)
    (run / "checkpoint.safetensors").write_bytes(b"damaged")
    with pytest.raises(EmgenError, match="cannot be resumed"):
        train(made(tissue), run)
    (run / "checkpoint.safetensors").unlink()
    with pytest.raises(EmgenError, match="no checkpoint to go on from"):
        train(made(tissue), run)


def test_a_log_that_broke_off_is_mended(tissue, tmp_path):
    run = tmp_path / "run"
    train(made(tissue), run)
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 7, "seco')
    train(made(tissue, optimiser={"steps": 8}), run)
    assert [line["step"] for line in progress.read(run)] == [6, 8]


def test_a_run_that_diverges_ends_and_keeps_its_checkpoint(tissue, tmp_path):
    run = tmp_path / "run"
    train(made(tissue), run)
    before = weights(run)
    with pytest.raises(EmgenError, match="diverged before step 30"):
        train(made(tissue, optimiser={"steps": 30, "rate": 1e30}), run)
    assert weights(run) == before


def test_a_network_that_cannot_be_built_is_named(tissue, tmp_path):
    with pytest.raises(EmgenError, match="cannot be built"):
        train(
            Recipe.model_validate({**made(tissue).model_dump(), "network": {"depth": 3}}),
            tmp_path / "r",
        )


def test_training_goes_on_from_another_prior(tissue, tmp_path):
    base = train(made(tissue), tmp_path / "base")
    card = train(made(tissue, name="q"), tmp_path / "more", initial=str(base.path))
    first, *_ = progress.read(tmp_path / "more")
    assert first["step"] == 0
    assert first["psnr_db"] == base.facts["validation_denoise_psnr_db"]
    assert card.architecture == base.architecture


def test_another_network_than_that_of_the_first_weights_is_refused(tissue, tmp_path):
    base = train(made(tissue), tmp_path / "base")
    other = {**made(tissue, name="q").model_dump(), "network": {"channels": [8, 24]}}
    with pytest.raises(EmgenError, match=r"not that of .*: channels .*8, 24"):
        train(Recipe.model_validate(other), tmp_path / "more", initial=str(base.path))


def test_a_full_disk_loses_nothing_before_the_last_checkpoint(tissue, tmp_path):
    path, run = written(tissue), tmp_path / "run"
    assert main(["train", str(path), "--output", str(run)]) == 0
    before = weights(run)
    code = (
        "import resource, sys; from emgen.cli.main import main;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) // 2},) * 2);"
        f"sys.exit(main(['train', {str(path)!r}, '--output', {str(run)!r}, '--steps', '9']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "make room and start again" in done.stderr
    assert weights(run) == before and not list(run.glob(".*partial"))
    assert main(["train", str(path), "--output", str(run), "--steps", "9"]) == 0


def test_a_kill_loses_no_more_than_the_steps_since_the_last_checkpoint(tissue, tmp_path, capfd):
    steps = {"steps": 100_000}
    path, run = written(tissue, optimiser=steps, checkpoint_minutes=0.01), tmp_path / "run"
    command = [sys.executable, "-m", "emgen.cli", "train", str(path), "--output", str(run)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while len(progress.read(run)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    reached = int(load_tensors(run)["step"])
    assert reached > 0
    assert main(["train", str(path), "--output", str(run), "--steps", str(reached + 2)]) == 0
    assert f"going on from step {reached}" in capfd.readouterr().out


@pytest.mark.timeout(600)
def test_the_workflow_trains_a_prior_and_then_finds_nothing_to_do(tissue, tmp_path):
    path = written(tissue, data="elsewhere")
    config = {"recipe": str(path), "data": str(tissue)}
    done = snakemake(tmp_path, config, "--snakefile", TRAIN)
    assert done.returncode == 0, done.stderr
    for name in ("p.safetensors", "p.json", "p-curves.png", "p-samples.png"):
        assert (tmp_path / "priors" / name).stat().st_size > 300, name
    assert load(str(tmp_path / "priors/p.safetensors"))[1].facts["steps"] == 6
    assert "Nothing to be done" in snakemake(tmp_path, config, "--snakefile", TRAIN).stderr


def test_the_workflow_says_what_is_wrong_with_a_recipe(tissue, tmp_path):
    path = written(tissue, data=str(tissue / "none"))
    done = snakemake(tmp_path, {"recipe": str(path)}, "--snakefile", TRAIN)
    assert done.returncode != 0 and "2 of the training sources cannot be used" in done.stderr


def test_a_training_without_a_recipe_says_what_to_give(tmp_path):
    done = snakemake(tmp_path, {"run": "a"}, "--snakefile", TRAIN)
    assert done.returncode != 0 and "--config recipe=FILE data=FOLDER" in done.stderr


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tissue, tmp_path):
    path = written(tissue)
    for count in (1, 2):
        launch = [*launcher(count), "-m", "emgen.cli", "train", str(path)]
        launch += ["--output", str(tmp_path / str(count))]
        subprocess.run(launch, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=250)
    one, two = (load_tensors(tmp_path / str(count)) for count in (1, 2))
    assert one["step"] == two["step"] == 6
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-3, atol=1e-5, msg=key)


def load_tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "checkpoint.safetensors")
