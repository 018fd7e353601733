"""Every rule's conda environment holds what its script imports.

Counted is what a script imports, and what the modules of emgen that it imports import in turn. An import
inside a function waits until the function is called; it counts as well, unless `CALLED_BY` says which rules
call it.
"""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from runs import ROOT

from emgen.qc.metrics import METRICS

# packages that import modules by the names in a list, and what every module so listed holds
LISTED = {"emgen.modes": "MODE", "emgen.qc.metrics": "METRIC", "emgen.sampling": "SAMPLER"}
COMPUTING = {
    *(
        "restore",
        "calibrate",
        "psf",
        "adapt",
        "train_prior",
        "consistency",
        "heldout",
        "trial",
        "figure",
    ),
}
# (module, what it imports inside a function): the rules that call the function. Both may be packages.
CALLED_BY: dict[tuple[str, str], set[str]] = {
    ("emgen", "emgen.arrays"): set(),
    ("emgen.arrays", "dask"): set(),  # only who gives a dask array
    ("emgen.modes", "torch"): COMPUTING,
    ("emgen.modes", "emgen.modes.trial"): COMPUTING,
    ("emgen.modes", "emgen.networks"): COMPUTING,
    ("emgen.modes", "emgen.physics.operators"): COMPUTING,
    ("emgen.modes", "emgen.sampling"): COMPUTING,
    ("emgen.sampling", "torch"): COMPUTING,
    ("emgen.sampling", "emgen.sampling"): COMPUTING,
    ("emgen.physics.psf", "tifffile"): {"plan", "psf"},  # a kernel is read once, into the plan
    ("emgen.qc.fourier", "skimage"): {"fsc"},
    ("emgen.qc.grey_errors", "skimage"): {"image", "figure"},
    ("emgen.qc.segmenter", "skimage"): {"segmentation"},
    ("emgen.qc.segmenter", "bioimage_cpp"): {"segmentation"},
    ("emgen.qc.metrics.consistency", "emgen.run.degrade"): {"consistency"},
    ("emgen.qc.metrics.consistency", "emgen.networks"): {"consistency"},
    ("emgen.qc.metrics.heldout", "emgen.run"): {"heldout"},
    ("emgen.qc.metrics.heldout", "emgen.networks"): {"heldout"},
    ("emgen.qc.metrics.trial", "emgen.run"): {"trial"},
    ("emgen.qc.metrics.trial", "emgen.networks"): {"trial"},
    ("emgen.qc.metrics", "emgen.qc.report"): {"report"},
    ("isotropic", "emgen.training"): set(),  # benchmarks compare with these, and no figure does
    ("sections", "bm3d"): set(),
    ("sections", "bm4d"): set(),
}


def rules() -> dict[str, tuple[Path, Path]]:
    """The script and the environment of every rule."""
    files = [
        *(ROOT / "rules").glob("*.smk"),
        ROOT / "workflow/train.smk",
        ROOT / "benchmarks/Snakefile",
    ]
    found = {}
    for path in files:
        for rule in re.split(r"^ *rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            script, conda = (re.search(rf'{key}:\s+"([^"]+)"', rule) for key in ("script", "conda"))
            if script and conda:
                parts = (path.parent / part[1] for part in (script, conda))
                found[rule.split(":")[0]] = tuple(part.resolve() for part in parts)
    metric = ROOT / "scripts/metric.py"
    return found | {m.name: (metric, ROOT / f"envs/{m.needs.environment}.yaml") for m in METRICS}


def libraries(environment: Path) -> set[str]:
    """What can be imported where the packages of an environment are installed, each by its own line."""
    dependencies = yaml.safe_load(environment.read_text())["dependencies"]
    (packages,) = (each["pip"] for each in dependencies if isinstance(each, dict))
    names = {canonicalize_name(Requirement(each).name) for each in packages}
    return {
        library
        for library, sources in packages_distributions().items()
        if names & {canonicalize_name(source) for source in sources}
    }


@cache
def imports(path: Path) -> tuple[tuple[str, bool], ...]:
    """What a file imports, and whether it does so inside a function; imports for types alone are left out."""
    return tuple(dict.fromkeys(_imports(ast.parse(path.read_text()).body, inside=False)))


def _imports(body: list[ast.stmt], inside: bool) -> Iterator[tuple[str, bool]]:
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield (name if file_of(name) else node.module), inside
        nested = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for field in ("body", "orelse", "finalbody"):
            yield from _imports(getattr(node, field, []), nested)
        for handler in getattr(node, "handlers", []):
            yield from _imports(handler.body, nested)


def file_of(module: str) -> Path | None:
    """The file of a module of emgen or of benchmarks."""
    for folder in (ROOT, ROOT / "benchmarks"):
        place = folder.joinpath(*module.split("."))
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file() and (folder != ROOT or module.split(".")[0] == "emgen"):
                return path
    return None


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def called(module: str, name: str, rule: str) -> bool:
    """Whether a rule comes to an import inside a function of a module."""
    callers = [
        rules
        for (package, library), rules in CALLED_BY.items()
        if within(module, package) and within(name, library)
    ]
    return all(rule in rules for rules in callers)


def needed(script: Path, rule: str) -> dict[str, str]:
    """The libraries that a rule's script imports, each with the module that does."""
    libraries, queue, reached = {}, [(script.stem, script)], set()
    while queue:
        module, path = queue.pop()
        if path in reached:
            continue
        reached.add(path)
        if module in LISTED:
            held = re.compile(rf"^{LISTED[module]} = ", re.MULTILINE)
            files = [each for each in path.parent.glob("*.py") if held.search(each.read_text())]
            queue += [(f"{module}.{each.stem}", each) for each in files]
        for name, inside in imports(path):
            if inside and not called(module, name, rule):
                continue
            if file_of(name):
                parts = name.split(".")
                above = [".".join(parts[:k]) for k in range(1, len(parts) + 1)]
                queue += [(each, place) for each in above if (place := file_of(each))]
            else:
                libraries.setdefault(name.split(".")[0], module)
    return {k: v for k, v in libraries.items() if k not in sys.stdlib_module_names}


@pytest.mark.parametrize("rule", sorted(rules()))
def test_the_environment_of_a_rule_holds_what_its_script_imports(rule):
    script, environment = rules()[rule]
    held = libraries(environment)
    missing = {k: f"imported by {v}" for k, v in needed(script, rule).items() if k not in held}
    assert missing == {}, f"{environment.name} is the environment of rule {rule}"


def test_what_only_some_rules_call_exists_and_so_do_they():
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "emgen").rglob("*.py")
    } | {path.stem: path for path in (ROOT / "benchmarks").glob("*.py")}
    for (package, library), called_by in CALLED_BY.items():
        assert any(
            inside and within(module, package) and within(name, library)
            for module, path in files.items()
            for name, inside in imports(path)
        ), f"nothing in {package} imports {library} inside a function"
        assert called_by <= set(rules())


def test_the_environment_of_the_figures_has_the_pinned_versions():
    pins = (ROOT / "requirements.txt").read_text().splitlines()
    text = (ROOT / "benchmarks/environment.yaml").read_text()
    assert set(re.findall(r"^ +- (\S+==\S+)$", text, re.MULTILINE)) <= set(pins)
