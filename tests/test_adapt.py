"""Adaptation of the prior to the volume that it restores: what it learns from, what it reports, when it is made anew."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import scipy.ndimage
from runs import measured, settings, snakemake

from emgen.config.restore import PoissonGaussian
from emgen.config.run import parse
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.networks.card import resolve as resolve_card
from emgen.physics.noise_model import white_noise
from emgen.run.plan import make
from emgen.run.resolve import resolve
from emgen.training.adapt import adapt, recipe
from emgen.training.tasks import prior
from emgen.training.training_volume import TrainingVolume
from emgen.volumes.volume import Volume

STEPS = {"steps": 4}


@pytest.fixture(autouse=True)
def small_sheets(monkeypatch):
    monkeypatch.setattr(prior, "SAMPLE_STEPS", 2)
    monkeypatch.setattr(prior, "SAMPLE_SIZE", 16)


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("input"))


def adapted(volume, folder):
    return adapt("emgen-small", str(volume), STEPS["steps"], 0, folder, "a")


def stored(folder, grey):
    volume = Volume.create(
        folder / f"{grey.flat[0]:g}.ome.zarr",
        grey.shape,
        np.float32,
        VoxelSize(32, 8, 8),
        chunk=grey.shape,
        shard=grey.shape,
    )
    volume.write(Box.whole(grey.shape), grey.astype(np.float32))
    return volume


def planned(volume, **restore):
    return resolve(parse(settings(volume, restore={"adapt": STEPS, **restore})))


def test_sections_are_learnt_from_or_held_out_and_never_both(volume):
    found = recipe("a", resolve_card("emgen-small"), Volume.open(volume), 4, 0)
    parts = [range(*each.sections) for each in (*found.sources, *found.validation)]
    assert sorted(index for part in parts for index in part) == list(range(6))
    assert all(each.path == str(volume) for each in (*found.sources, *found.validation))


def test_lost_sections_are_neither_learnt_from_nor_held_out(volume):
    found = recipe("a", resolve_card("emgen-small"), Volume.open(volume), 4, 0, lost=(1, 3))
    ends = [each.sections for each in found.sources], [each.sections for each in found.validation]
    assert ends == ([(0, 1), (4, 6)], [(2, 3)])
    assert all(each.lost == (1, 3) for each in (*found.sources, *found.validation))
    with pytest.raises(EmgenError, match=r"at least 4 sections.*of which 3 sections are lost"):
        recipe("a", resolve_card("emgen-small"), Volume.open(volume), 4, 0, lost=(1, 3, 5))


def test_another_adaptation_for_other_lost_sections(volume):
    config = settings(volume, restore={"adapt": STEPS}, input={"lost": [2]})
    assert resolve(parse(config)).adaptation != planned(volume).adaptation


def test_the_same_input_and_settings_have_one_adapted_prior(volume):
    name = planned(volume).adaptation
    assert name == planned(volume, samples=4, steps=7, start=0.5).adaptation
    others = [{"adapt": {"steps": 5}}, {"seed": 1}]
    assert name not in [planned(volume, **other).adaptation for other in others]
    assert resolve(parse(settings(volume))).adaptation is None


def test_another_adaptation_for_other_noise(volume):
    none = planned(volume).adaptation
    assert planned(volume, noise=10).adaptation != none
    assert planned(volume, noise=0).adaptation == planned(volume, noise="auto").adaptation == none


@pytest.mark.parametrize(
    "noise", [0.0, 10.0, "poisson", "correlated", PoissonGaussian(gain=2, black=9)]
)
def test_it_learns_at_the_contrast_at_which_it_restores(tmp_path, monkeypatch, noise):
    from emgen.training import adapt as module

    rng = np.random.default_rng(0)
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(8, 60, 60)), (0, 2, 2))
    grey = 9 + rng.poisson(30 * np.exp(smooth / smooth.std() / 1.5))
    skewed = stored(tmp_path, grey)
    made = []
    monkeypatch.setattr(module, "train", lambda found, *_, **__: made.append(found) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        adapt("emgen-small", skewed.path, 4, 0, tmp_path, "a", noise=noise)
    given = noise.model_dump() if isinstance(noise, PoissonGaussian) else noise
    plan = make(resolve(parse(settings(skewed.path, restore={"noise": given}))))
    for each in made[0].sources:
        source = TrainingVolume.open(each, tmp_path, 32)
        assert source.intensity == plan.intensity


def test_voxels_that_say_nothing_are_refused(tmp_path):
    for value, words in (
        (np.nan, "found nothing but NaN or infinite ones"),
        (3, "grey value 3"),
    ):
        volume = stored(tmp_path, np.full((8, 60, 60), value))
        with pytest.raises(EmgenError, match=words):
            adapt("emgen-small", volume.path, 4, 0, tmp_path / "adapted", "a", lost=())


@pytest.mark.parametrize("noise", [10.0, "poisson", PoissonGaussian(gain=0.8, sigma=3)])
def test_noise_as_the_settings_say_it_is_not_learnt(volume, tmp_path, monkeypatch, noise):
    from emgen.training import adapt as module

    made = []
    monkeypatch.setattr(module, "train", lambda found, *_, **__: made.append(found) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        adapt("emgen-small", str(volume), 4, 0, tmp_path, "a", noise=noise)
    levels = {each.noise for each in (*made[0].sources, *made[0].validation)}
    voxels = Volume.open(volume).read(Box.whole(Volume.open(volume).shape))
    expected = {
        "10.0": 10.0,
        "poisson": white_noise([voxels]),
        "gain": (0.8 * voxels.mean() + 9) ** 0.5,
    }
    key = next(key for key in expected if key in str(noise))
    assert len(levels) == 1 and levels.pop() == pytest.approx(expected[key], rel=0.15)


def test_the_card_compares_before_and_after_and_the_plan_takes_it_over(volume, tmp_path):
    card = adapted(volume, tmp_path / "adapted")
    facts = card.facts["adaptation"]
    assert facts["base_sha256"] == resolve_card("emgen-small").sha256
    mean = {key: np.mean(list(facts[f"{key}_db"].values())) for key in ("before", "after")}
    assert mean["after"] >= mean["before"]
    plan, base = make(planned(volume), card.path), make(resolve(parse(settings(volume))))
    assert plan.prior["sha256"] == card.sha256 and plan.prior["adaptation"] == facts
    assert plan.key != base.key and plan.intensity == base.intensity


def test_a_prior_adapted_to_other_voxels_is_refused(volume, tmp_path):
    card = adapted(volume, tmp_path / "adapted")
    shutil.copytree(volume, copy := tmp_path / "copy.ome.zarr")
    target = Volume.open(copy, mode="r+")
    box = Box((0, 0, 0), target.shape)
    target.write(box, 255 - target.read(box))
    with pytest.raises(EmgenError, match="adapted to other voxels"):
        make(planned(copy), card.path)


def test_it_goes_on_where_it_was_stopped(volume, tmp_path, monkeypatch, capsys):
    from emgen.training import adapt as module
    from emgen.training.state import State

    def often(*arguments):
        return recipe(*arguments).model_copy(update={"checkpoint_minutes": 1e-9})

    monkeypatch.setattr(module, "recipe", often)
    expected, update = adapted(volume, tmp_path / "whole"), State.update

    def killed(self, average):
        update(self, average)
        if self.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(State, "update", killed)
    with pytest.raises(KeyboardInterrupt):
        adapted(volume, tmp_path / "parts")
    monkeypatch.setattr(State, "update", update)
    assert adapted(volume, tmp_path / "parts").sha256 == expected.sha256
    assert "going on from step 2 of 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mode": "denoise"}, "would learn their blur"),
        ({"adapt": {"steps": -1}}, "restore.adapt.steps"),
    ],
)
def test_what_cannot_be_adapted_is_refused(volume, change, words):
    with pytest.raises(EmgenError, match=words):
        planned(volume, **change)


def test_a_diffusion_model_is_refused(volume):
    base = resolve_card("emgen-small")
    noise = dataclasses.replace(base, architecture={**base.architecture, "predicts": "noise"})
    with pytest.raises(EmgenError, match="predicts noise"):
        recipe("a", noise, Volume.open(volume), 4, 0)


def test_too_few_sections_are_refused(tmp_path):
    thin = measured(tmp_path, Box((0, 30, 40), (3, 70, 80)))
    with pytest.raises(EmgenError, match="at least 4 sections"):
        adapted(thin, tmp_path / "adapted")


@pytest.mark.timeout(600)
def test_the_workflow_adapts_once_and_reports_what_it_did(volume, tmp_path):
    config = settings(volume, restore={"adapt": STEPS, "steps": 1})
    done = snakemake(tmp_path, config)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "results/small"
    plan = json.loads((run / "plan.json").read_text())
    assert plan["prior"]["name"].startswith("adapted-")
    page = re.sub(r"\s+", " ", (run / "report.html").read_text())
    assert "fine-tuned on the measured sections" in page and "adapted-" in page
    done = snakemake(tmp_path, config)
    assert "Nothing to be done" in done.stderr
    # the files are the same, and Snakemake makes them for no other reason
    weights = next((tmp_path / "results/adapted").glob("*/*.safetensors"))
    before = weights.stat().st_mtime_ns
    other = {**config, "run": "other", "restore": {**config["restore"], "start": 0.5}}
    assert snakemake(tmp_path, other, "--until", "restore").returncode == 0
    assert weights.stat().st_mtime_ns == before
    key = [
        json.loads((tmp_path / f"results/{run}/plan.json").read_text())["prior"]["sha256"]
        for run in ("small", "other")
    ]
    assert key[0] == key[1]
