"""Small recipes to train by."""

import yaml

from emgen.training.recipe import Recipe

SMALL = {
    "network": {"channels": [8, 16], "layers": 1},
    "patches": {"size": 32},
    "optimiser": {"batch": 4, "warm_up": 4, "rate": 3e-3, "decay": 0, "steps": 6},
}


def made(tissue, **more):
    """A small recipe that learns from a and is validated on b."""
    facts = {
        "name": "p",
        "data": str(tissue),
        "sources": [{"path": "a.tif", "voxel_size_nm": 8}],
        "validation": [{"path": "b.tif", "voxel_size_nm": 8}],
        **SMALL,
    }
    for key, value in more.items():
        facts[key] = {**facts[key], **value} if isinstance(facts.get(key), dict) else value
    return Recipe.model_validate(facts)


def written(tissue, **more):
    path = tissue / "recipe.yaml"
    path.write_text(yaml.safe_dump(made(tissue, **more).model_dump(mode="json")))
    return path
