"""Recipes in the words of version 0.1.0, which go on being read: translated here, and nowhere else.

    then                              today
    flow: {...}                       task: {kind: prior, ...}
    interpolation: {beside: 3, ...}   task: {kind: axial, context: 3, ...}
    sections: {beside: 3, ...}        task: {kind: sections, context: 3, ...}
"""

from __future__ import annotations

from typing import Any

from emgen.networks.card import FORMER_TASK_KEYS, with_context


def translated(recipe: dict[str, Any]) -> dict[str, Any]:
    """The same recipe with `task` for the keys that said before what is trained.

    Raises:
        ValueError: it has two tasks, or keys of both versions.
    """
    kinds = [kind for kind, key in FORMER_TASK_KEYS.items() if recipe.get(key) is not None]
    former = [FORMER_TASK_KEYS[kind] for kind in kinds]
    if not kinds:
        return {k: v for k, v in recipe.items() if k not in FORMER_TASK_KEYS.values()}
    if "task" in recipe:
        raise ValueError(
            f"found task and {', '.join(former)}, its name in version 0.1.0; expected task: {{kind: prior, axial or sections}}"
        )
    # a recipe for an estimator might hold `flow`, which had no effect
    tasks = [kind for kind in kinds if kind != "prior"] or kinds
    if len(tasks) > 1:
        raise ValueError(
            f"found {' and '.join(former)}; expected one task: {{kind: prior, axial or sections}}"
        )
    settings = recipe[FORMER_TASK_KEYS[tasks[0]]]
    if not isinstance(settings, dict):
        raise ValueError(f"{FORMER_TASK_KEYS[tasks[0]]}: expected keys and values")
    rest = {k: v for k, v in recipe.items() if k not in FORMER_TASK_KEYS.values()}
    return {**rest, "task": {"kind": tasks[0], **with_context(settings)}}
