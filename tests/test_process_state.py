"""No function switches what all threads of a process share: another thread would see it switched."""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from runs import ROOT

MODULES = sorted((ROOT / "emgen").rglob("*.py"))

# what switches a setting of the whole process, by the end of its dotted name
SWITCHES = {
    "basicConfig",
    "captureWarnings",
    "catch_warnings",
    "chdir",
    "config.set",
    "filterwarnings",
    "matplotlib.use",
    "os.putenv",
    "np.random.seed",
    "np.seterr",
    "np.set_printoptions",
    "random.seed",
    "rcParams.update",
    "rc_context",
    "resetwarnings",
    "set_default_device",
    "set_default_dtype",
    "set_default_tensor_type",
    "set_float32_matmul_precision",
    "set_num_interop_threads",
    "setdefaulttimeout",
    "setlocale",
    "setrecursionlimit",
    "simplefilter",
    "torch.manual_seed",
    "torch.set_num_threads",
    "umask",
    "use_deterministic_algorithms",
}
# module: what it switches on purpose, before it begins any thread and for as long as the process lives or until
# its threads have ended
ALLOWED = {
    "cli/run": {"chdir"},
    "networks/device": {"torch.backends.cudnn.allow_tf32", "torch.set_num_threads"},
    "qc/report/charts": {"matplotlib.rc_context"},
    "training/loop": {"torch.manual_seed"},
    "training/state": {"torch.manual_seed"},
}


def dotted(node: ast.expr) -> str:
    """`a.b.c` of such an expression, "" of any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def imported(tree: ast.AST) -> set[str]:
    """Names by which a module knows other modules, and what is in them."""
    return {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


def switched(tree: ast.AST) -> Iterator[str]:
    """Every switch of a process-wide setting in a module."""
    foreign = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"global {', '.join(node.names)}"
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if any(name == each or name.endswith(f".{each}") for each in SWITCHES):
                yield name
            # setattr(Image, "MAX_IMAGE_PIXELS", ...), also through a callback
            words = [node.func, *node.args]
            for function, target in pairwise(words):
                if dotted(function) in ("setattr", "delattr") and dotted(target) in foreign:
                    yield f"setattr of {dotted(target)}"
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete):
            targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target]
            for target in targets:
                place = target.value if isinstance(target, ast.Subscript) else target
                name = dotted(place)
                # Image.MAX_IMAGE_PIXELS = ..., os.environ["A"] = ..., but not self.a = ...
                if "." in name and name.split(".")[0] in foreign:
                    yield name


def module(path: Path) -> str:
    return path.relative_to(ROOT / "emgen").with_suffix("").as_posix()


@pytest.mark.parametrize("path", MODULES, ids=module)
def test_a_module_switches_nothing_that_other_threads_see(path):
    assert set(switched(ast.parse(path.read_text()))) == ALLOWED.get(module(path), set())


@pytest.mark.parametrize(
    ("text", "switch"),
    [
        ("import zarr\nwith zarr.config.set({'a': 1}): pass", "zarr.config.set"),
        ("from PIL import Image\nImage.MAX_IMAGE_PIXELS = None", "Image.MAX_IMAGE_PIXELS"),
        ("from PIL import Image\nstack.callback(setattr, Image, 'A', 1)", "setattr of Image"),
        ("import warnings\nwith warnings.catch_warnings(): pass", "warnings.catch_warnings"),
        ("import os\nos.environ['A'] = '1'", "os.environ"),
        (
            "import torch\ntorch.backends.cudnn.allow_tf32 = False",
            "torch.backends.cudnn.allow_tf32",
        ),
        ("def f():\n    global a\n    a = 1", "global a"),
    ],
)
def test_a_switch_is_seen(text, switch):
    assert list(switched(ast.parse(text))) == [switch]


def test_what_belongs_to_one_object_is_no_switch():
    text = (
        "import torch\nself.x = 1\na[0] = 2\ntorch.Generator().manual_seed(1)\narray.config.order"
    )
    assert list(switched(ast.parse(text))) == []
