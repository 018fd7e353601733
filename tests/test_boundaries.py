"""What may import what, and how the repository keeps its parts in step."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import ROOT

MODULES = sorted((ROOT / "emgen").rglob("*.py"))
RULES = [*sorted((ROOT / "rules").glob("*.smk")), ROOT / "workflow/train.smk"]
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))

# library: the rooms and modules of emgen that may import it
HOMES = {
    "snakemake": (),
    "zarr": ("volumes",),
    "tensorstore": ("volumes",),
    "torch": (
        "networks",
        "training",
        "physics.operators",
        "sampling",
        "modes",
        "run.restore",
        "run.tensors",
        "run.claim",
        "run.job",
        "run.fit_psf",
        "run.calibration",
        "run.degrade",
        "run.heldout",
        "arrays",
    ),
    "safetensors": ("networks", "training"),
    "diffusers": ("networks.unet2d",),
    "matplotlib": ("qc.report.charts", "qc.report.pictures", "training.progress"),
    "accelerate": ("training.run",),
    "jinja2": ("qc.report.page",),
    "bioimage_cpp": ("qc.segmenter",),
}
WITHOUT_TORCH = (
    "config",
    "geometry",
    "networks.card",
    "physics.missing",
    "physics.noise_model",
    "qc.metrics",
    "qc.report.page",
    "run.inspection",
    "run.mend",
    "run.plan",
    "run.provenance",
    "run.resolve",
    "run.stitch",
    "run.verify",
    "training.datasets",
    "volumes.grid",
    "volumes.importers",
    "volumes.intensity",
    "volumes.pyramid",
    "volumes.volume",
)
# lowest first: a room may use those below it
FLOORS = (
    "addresses",
    "errors",
    "geometry",
    "config",
    "volumes",
    "physics",
    "sampling",
    "networks",
    "training",
    "modes",
    "run",
    "qc",
    "arrays",
    "cli",
)
# emgen's own: what the mathematics must not know
STRANGERS = {
    "geometry": {"emgen"},
    "sampling": {"emgen.config", "emgen.volumes"},
    "training.flow": {"emgen"},
    "volumes.omezarr": {"emgen.volumes.volume"},
}


def name(path: Path) -> str:
    """`prior.network` of emgen/prior/network.py; `prior` of its __init__.py."""
    parts = path.relative_to(ROOT / "emgen").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions; `from a import b` gives a and a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module: str, home: str) -> bool:
    return module == home or module.startswith(home + ".")


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_imports_only_what_it_is_for(path):
    module, found = name(path), set(imported(path))
    for library, homes in HOMES.items():
        if any(within(each, library) for each in found):
            assert any(within(module, home) for home in homes), f"{module} imports {library}"
    for home, strangers in STRANGERS.items():
        for stranger in strangers if within(module, home) else ():
            assert not [each for each in found if within(each, stranger)], (
                f"{module} imports {stranger}"
            )


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_uses_a_room_above_its_own(path):
    room = name(path).split(".")[0]
    if room == "":
        return  # emgen/__init__.py opens the doors to all of them
    above = {f"emgen.{each}" for each in FLOORS[FLOORS.index(room) + 1 :]}
    used = {".".join(each.split(".")[:2]) for each in imported(path)}
    assert used & above == set(), f"{name(path)} is on the floor of {room}"


def test_the_package_has_few_rooms():
    entries = {path.stem for path in (ROOT / "emgen").iterdir()} - {"__init__", "__pycache__", "py"}
    assert entries == set(FLOORS)


def test_what_moves_voxels_runs_without_torch():
    command = f"import sys, {', '.join(f'emgen.{each}' for each in WITHOUT_TORCH)}; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout == "False\n", done.stderr


def test_files_are_small_enough_to_read():
    limits = {ROOT / "Snakefile": 60} | dict.fromkeys(SCRIPTS, 40) | dict.fromkeys(MODULES, 400)
    lengths = {path: len(path.read_text().splitlines()) for path in limits}
    assert {
        str(path.relative_to(ROOT)): length
        for path, length in lengths.items()
        if length > limits[path]
    } == {}
    assert not list((ROOT / "emgen").rglob("utils.py"))


def rules() -> dict[str, str]:
    """The text of every rule that does something, by its name; those of metrics are one."""
    text = "\n".join(path.read_text() for path in RULES)
    text = text.replace("    rule:\n        name:", "    rule metric:\n        name:")
    return {
        found[1]: found[2]
        for found in re.finditer(
            r"^ *rule (\w+):\n(.*?)(?=^ *rule |^\S|\Z)", text, re.MULTILINE | re.DOTALL
        )
        if "output:" in found[2]
    }


@pytest.mark.parametrize("rule", rules())
def test_a_rule_and_its_script_have_one_name(rule):
    text = rules()[rule]
    assert f'"../scripts/{rule}.py"' in text
    for directive in (
        "params" if rule in ("adapt", "inspect", "plan", "psf") else "input",
        "output",
        "message",
        "log",
        "benchmark",
        "conda",
        "threads",
    ):
        assert re.search(rf"^ +{directive}:", text, re.MULTILINE), f"rule {rule} has no {directive}"


def test_every_script_has_its_rule():
    assert {path.stem for path in SCRIPTS} == set(rules())


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file that belongs to the repository, this one apart."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for path in (ROOT / entry for entry in listed.stdout.decode().split("\0") if entry):
        data = path.read_bytes() if path.is_file() else b""
        if path != Path(__file__).resolve() and b"\0" not in data[:8000]:
            yield path, data.decode(errors="replace")


def test_nothing_names_the_machine_it_was_made_on():
    words = re.compile(
        r"(?<![\w.])/(work|root|home/\w+|tmp)/|\.\./shared|file:///|"
        r"pythonhosted|//(www\.)?pypi\.|extra-index-url|\+cpu\b|\b(TODO|FIXME|XXX)\b"
    )
    found = [
        f"{path.relative_to(ROOT)}: {hit[0]}"
        for path, text in texts()
        for hit in words.finditer(text)
    ]
    assert found == []
