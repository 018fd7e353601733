"""Recipes: those of the repository, and what is wrong with others."""

import json

import pytest
import yaml
from recipes import made
from runs import ROOT

from emgen.errors import EmgenError
from emgen.networks.checkpoint import load
from emgen.training import recipe
from emgen.training.state import State


@pytest.mark.parametrize(
    "path", sorted((ROOT / "config/prior").glob("em*.yaml")), ids=lambda p: p.stem
)
def test_those_of_the_repository_are_right(path):
    found = recipe.read(path)
    assert found.name == path.stem
    State.new(found, found.network)


def test_the_shipped_prior_is_made_by_its_recipe():
    found, (_, card) = recipe.read(ROOT / "config/prior/emgen-small.yaml"), load("emgen-small")
    assert card.architecture == found.network
    assert card.facts["data"] == recipe.names(found.sources)
    assert card.facts["validation"] == recipe.names(found.validation)
    stored = found.model_dump(mode="json")
    assert card.facts["training"] == {key: stored[key] for key in card.facts["training"]}


def test_the_paper_is_followed():
    found = recipe.read(ROOT / "config/prior/em-generalist.yaml")
    settings = found.optimiser
    assert found.network["channels"] == [64, 128, 256, 512]
    assert (found.patches.size, settings.batch, settings.steps) == (128, 256, 200_000)
    assert (settings.rate, settings.warm_up, settings.average) == (1e-4, 1000, 0.999)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"validation": [{"path": "a.tif", "voxel_size_nm": 8}]}, "is trained on"),
        ({"validation": []}, "validation: expected at least 1 of them; found"),
        ({"sources": [{"path": "a.tif", "sections": (5, 5)}]}, "sections"),
        ({"sources": [{"path": "a.tif", "dataset": "jrc_mus_liver"}]}, "jrc_mus-liver"),
        (
            {"sources": [{"path": "a.tif", "weight": 1}, {"path": "c.tif"}]},
            "weight for every source",
        ),
        ({"optimiser": {"steps": 5, "decay": 6}}, "decay"),
        ({"optimiser": {"speed": 5}}, "speed"),
        ({"optimiser": [1]}, "optimiser"),
        ({"sources": [{"path": "a.tif", "voxel_size_nm": 0}]}, "expected at least 0.001; found 0"),
        ({"validation": [{"path": "./a.tif", "voxel_size_nm": 8}]}, "is trained on"),
        (
            {"validation": [{"path": "b.tif"}, {"path": "b.tif"}]},
            "two sources are called b.tif",
        ),
        ({"name": "../p"}, "name"),
        ({"sources": [{"path": "a.tif", "noise": 5}]}, "expected patches"),
        (
            {
                "sources": [{"path": "a.tif", "noise": 5}],
                "patches": {"zoom": (1, 1)},
                "task": {"kind": "prior", "coupling": "optimal-transport"},
            },
            "expected task: .coupling",
        ),
    ],
)
def test_faults_are_named(tissue, change, words):
    facts = made(tissue).model_dump(mode="json") | change
    path = tissue / "bad.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(facts))))
    with pytest.raises(EmgenError, match=words):
        recipe.read(path)


def test_the_same_file_may_be_split(tissue):
    parts = [{"path": "a.tif", "voxel_size_nm": 8, "sections": s} for s in ((0, 12), (12, 20))]
    made(tissue, sources=parts[:1], validation=parts[1:])


def test_what_is_no_recipe_is_refused(tissue):
    (tissue / "list.yaml").write_text("- 1")
    (tissue / "bad.yaml").write_text("a: [")
    for name, words in (
        ("none", "cannot be read"),
        ("list", "expected keys"),
        ("bad", "not YAML"),
    ):
        with pytest.raises(EmgenError, match=words):
            recipe.read(tissue / f"{name}.yaml")


def test_the_rate_warms_up_stays_and_falls(tissue):
    settings = made(tissue, optimiser={"steps": 100, "decay": 20, "warm_up": 10}).optimiser
    assert [settings.rate_at(s) for s in (0, 9, 50, 80, 99)] == pytest.approx([0.1, 1, 1, 1, 0.05])


@pytest.mark.parametrize(
    ("kind", "former", "settings"),
    [
        ("prior", "flow", {"coupling": "optimal-transport", "late": 0.3}),
        ("axial", "interpolation", {"beside": 1, "factors": [2, 6]}),
        ("sections", "sections", {"beside": 1, "strides": [1, 3]}),
    ],
)
def test_recipes_of_version_0_1_0_are_read_in_the_words_of_today(tissue, kind, former, settings):
    facts = made(tissue).model_dump(mode="json")
    del facts["task"]
    path = tissue / "former.yaml"
    path.write_text(yaml.safe_dump({**facts, former: settings}))
    now = {("context" if key == "beside" else key): value for key, value in settings.items()}
    assert recipe.read(path) == made(tissue, task={"kind": kind, **now})
    if kind != "prior":  # whose recipes might hold what only a prior used
        path.write_text(yaml.safe_dump({**facts, former: settings, "flow": {"late": 0.3}}))
        assert recipe.read(path) == made(tissue, task={"kind": kind, **now})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"interpolation": {}, "sections": {}}, "interpolation and sections; expected one task"),
        ({"task": {"kind": "axial"}, "sections": {}}, "task and sections, its name in version 0.1"),
        ({"task": {"kind": "lateral"}}, "task.kind: expected prior, axial or sections"),
        ({"sections": [1]}, "sections: expected keys and values"),
    ],
)
def test_a_recipe_has_one_task(tissue, change, words):
    facts = made(tissue).model_dump(mode="json", exclude={"task"})
    path = tissue / "bad.yaml"
    path.write_text(yaml.safe_dump({**facts, **change}))
    with pytest.raises(EmgenError, match=words):
        recipe.read(path)
