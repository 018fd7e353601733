"""What is declared, pinned, locked and licensed, and that these lists agree."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pins import (
    FOR_DEVELOPERS,
    FOR_USERS,
    PROJECT,
    extras,
    for_developers,
    for_users,
    pins,
    version,
)
from runs import ROOT
from test_boundaries import MODULES, imported

import emgen

NOT_FREE = re.compile(r"\b(AGPL|GPL|GNU General|GNU Affero|Commercial|Proprietary)", re.IGNORECASE)


def tool(stem: str) -> ModuleType:
    """A script of .ci as a module."""
    spec = importlib.util.spec_from_file_location(stem, ROOT / f".ci/{stem}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def closure(requirements: list[Requirement]) -> set[str]:
    """The packages that these need on this machine, themselves among them."""
    found: set[tuple[str, str]] = set()
    todo = [(each, extra) for each in requirements for extra in ("", *each.extras)]
    while todo:
        requirement, extra = todo.pop()
        if (key := (canonicalize_name(requirement.name), extra)) in found:
            continue
        found.add(key)
        needs = [Requirement(line) for line in distribution(requirement.name).requires or []]
        todo += [
            (each, further)
            for each in needs
            if each.marker is None or each.marker.evaluate({"extra": extra})
            for further in ("", *each.extras)
        ]
    return {package for package, _ in found}


@pytest.mark.parametrize(
    ("file", "declared"),
    [(FOR_USERS, for_users()), (FOR_DEVELOPERS, for_developers())],
    ids=["users", "developers"],
)
def test_every_dependency_is_pinned_within_its_range(file, declared):
    pinned = pins(file)
    for requirement in declared:
        exact = version(pinned[canonicalize_name(requirement.name)])
        assert requirement.specifier.contains(exact), requirement


def test_nothing_is_pinned_that_nothing_needs():
    # what belongs to the wheel of torch for a GPU is not listed: it differs from machine to machine
    to_run = closure(for_users())
    with_cuda = {each for each in to_run if each.startswith(("nvidia-", "cuda-", "triton"))}
    assert to_run - with_cuda == set(pins(FOR_USERS))
    assert closure(for_developers()) - to_run - with_cuda == set(pins(FOR_DEVELOPERS))


def test_users_need_nothing_that_is_for_developers():
    assert not set(pins(FOR_USERS)) & set(pins(FOR_DEVELOPERS))
    assert (ROOT / FOR_DEVELOPERS).read_text().count(f"-r {FOR_USERS}\n") == 1


def test_the_lock_file_has_every_pin_with_its_hashes():
    lock = tool("lock")
    hashes = lock.locked(lock.LOCK.read_text())
    assert {
        canonicalize_name(pin.partition("==")[0]): pin.partition("==")[2] for pin in hashes
    } == {
        package: version(pin) for package, pin in pins(FOR_USERS).items() if package != lock.APART
    }
    assert min(hashes.values()) >= 1
    assert "//" not in lock.LOCK.read_text()


def test_the_licence_of_everything_that_runs_is_listed_and_free():
    licences = tool("licences")
    assert licences.PAGE.read_text(encoding="utf-8") == licences.page(), (
        "run .venv/bin/python .ci/licences.py"
    )
    for requirement in licences.requirements():
        stated = licences.licence(distribution(requirement.name))
        if requirement.name not in licences.STATED:
            assert not NOT_FREE.search(stated), f"{requirement.name}: {stated}"


def test_every_library_that_is_imported_is_declared():
    declared = {canonicalize_name(requirement.name) for requirement in [*for_users(), *extras()]}
    assert {library for library in libraries(MODULES) if not sources(library) & declared} == set()


def test_every_library_that_is_declared_is_imported():
    # those that are only loaded by name: by fsspec for s3://, and by Snakemake for --executor slurm
    by_name = {"s3fs", "snakemake-executor-plugin-slurm", "snakemake"}
    imports = set().union(*(sources(library) for library in libraries(MODULES)))
    declared = {canonicalize_name(requirement.name) for requirement in for_users()}
    assert declared - imports == by_name


def libraries(paths: list[Path]) -> set[str]:
    """Top-level names that these files import, also inside functions, and that are not emgen's or Python's own."""
    names = {module.split(".")[0] for path in paths for module in imported(path)}
    return names - sys.stdlib_module_names - {"emgen"}


@cache
def sources(library: str) -> set[str]:
    """The packages that bring a library."""
    return {canonicalize_name(source) for source in packages_distributions()[library]}


def environments() -> list[Path]:
    return sorted((ROOT / "envs").glob("*.yaml"))


def packages(environment: Path) -> list[Requirement]:
    """What pip installs into a conda environment."""
    (lines,) = (
        entry["pip"]
        for entry in yaml.safe_load(environment.read_text())["dependencies"]
        if isinstance(entry, dict)
    )
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("path", environments(), ids=lambda path: path.stem)
def test_a_conda_environment_has_the_pinned_versions(path):
    pinned = pins(FOR_USERS)
    for package in packages(path):
        assert package.specifier == pinned[canonicalize_name(package.name)].specifier, package
    assert ("torch" in {package.name for package in packages(path)}) == (path.stem == "torch")


def test_the_version_is_one_and_the_changelog_has_it():
    assert PROJECT["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", emgen.__version__)
    assert emgen.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_every_file_of_the_package_is_packed_and_no_pattern_is_empty():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packed = [
        set((ROOT / package.replace(".", "/")).glob(pattern))
        for package, patterns in declared["package-data"].items()
        for pattern in patterns
    ]
    assert all(packed)
    files = {path for path in (ROOT / "emgen").rglob("*") if path.is_file()}
    others = {path for path in files if path.suffix not in (".py", ".pyc")}
    # setuptools packs the mark that types are there by itself
    assert others - set().union(*packed) == {ROOT / "emgen/py.typed"}


def test_the_functions_on_arrays_are_at_the_door_and_torch_waits_behind_it():
    program = (
        "import sys, emgen; before = 'torch' in sys.modules; from emgen import isotropic; "
        "import emgen.arrays; print(before, isotropic is emgen.arrays.isotropic, 'isotropic' in dir(emgen))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "False True True\n"
    with pytest.raises(ImportError, match="cannot import name 'destripe'"):
        from emgen import destripe  # noqa: F401
