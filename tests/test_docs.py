"""What README and the pages of docs/ say is there: links, files, commands, settings, tutorials, the site itself."""

import argparse
import importlib.util
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from runs import ROOT, environment

from emgen import __version__
from emgen.cli.main import build_parser
from emgen.config.run import parse

ROOT_PAGES = ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY", "benchmarks/README", "demo/README")
PAGES = sorted(
    [*(ROOT / f"{page}.md" for page in ROOT_PAGES), *(ROOT / "docs").rglob("*.md")],
)
TODAY = [page for page in PAGES if page.stem != "CHANGELOG"]  # which tells what there was
TUTORIALS = {  # and whether it takes more than 20 seconds
    "denoise": False,
    "thick_sections": True,
    "fibsem": True,
}
BLOCK = re.compile(r"^( *)``` ?(\S*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
OURS = r"(?:\.ci|benchmarks|config|demo|docs|emgen|envs|profiles|rules|scripts|tests|workflow)"


def title(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, *languages: str) -> list[str]:
    """The code blocks of a page in one of these languages; "" is a block that names none."""
    return [text for _, language, text in BLOCK.findall(path.read_text()) if language in languages]


def spans(path: Path) -> list[str]:
    """The code in the lines of a page, blocks apart."""
    return re.findall(r"`([^`\n]+)`", BLOCK.sub("", path.read_text()))


def commands(path: Path) -> list[str]:
    """What a page says can be typed, one line each, less its comment."""
    lines = [line for block in blocks(path, "", "bash") for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in (*lines, *spans(path))]


def anchors(path: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", path.read_text()), re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", heading.replace("`", "")) for heading in headings)
    return {re.sub(r"[-\s]+", "-", heading.strip().lower()) for heading in words}


@pytest.mark.parametrize("path", PAGES, ids=title)
def test_every_link_leads_to_a_file_and_its_heading(path):
    for link in LINK.findall(BLOCK.sub("", path.read_text())):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.is_file(), f"{title(path)}: {link}"
        assert not anchor or anchor in anchors(target), f"{title(path)}: {link}"


@pytest.mark.parametrize("path", TODAY, ids=title)
def test_every_file_that_a_page_names_is_there(path):
    named = re.compile(rf"{OURS}/[\w./*-]+")
    for name in filter(named.fullmatch, spans(path)):
        assert list(ROOT.glob(name)), f"{title(path)} names {name}"


@pytest.mark.parametrize("path", TODAY, ids=title)
def test_every_command_that_a_page_gives_exists(path):
    targets = re.findall(r"^([\w./-]+|\$\(VENV\)):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    (subparsers,) = (
        action
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    for command in commands(path):
        words = command.split()
        match words[:3]:
            case ["make", target, *_] if "=" not in target:
                assert target in targets or target.startswith(".venv/"), command
            case ["emgen", name, *_] if name.isalpha():
                assert name in subparsers.choices, command
            case ["python", "-m", module]:
                assert importlib.util.find_spec(module) or module == "build", command
            case ["python", script, *_]:
                assert (ROOT / script).is_file(), command
            case ["snakemake", "-s", file]:
                assert (ROOT / file).is_file(), command


@pytest.mark.parametrize("path", PAGES, ids=title)
def test_every_block_of_settings_can_be_used(path):
    for block in blocks(path, "yaml"):
        for settings in yaml.safe_load_all(block):
            if isinstance(settings, dict) and settings.keys() & {"run", "input", "restore"}:
                parse({"run": "a", "input": {"volume": "a.ome.zarr"}, **settings})


@pytest.mark.parametrize("path", PAGES, ids=title)
def test_every_block_of_python_is_python(path):
    for block in blocks(path, "python"):
        compile(block, title(path), "exec")


def test_readme_is_short_and_fits_a_screen():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 220 and max(map(len, lines)) <= 120


def test_every_decision_is_listed():
    listed = LINK.findall((ROOT / "docs/decisions/index.md").read_text())
    assert {page.name for page in (ROOT / "docs/decisions").glob("*.md")} - {"index.md"} == {
        *listed
    }


def test_the_version_that_is_cited_and_described_is_this_one():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == __version__
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_licence_of_every_file_of_the_demo_is_stated():
    folder = ROOT / "demo"
    stated = [
        pattern
        for entry in tomllib.loads((folder / "REUSE.toml").read_text())["annotations"]
        for pattern in entry["path"]
    ]
    files = {
        file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in str(file)
    }
    covered = {file for pattern in stated for file in folder.glob(pattern) if file.is_file()}
    below = {
        file
        for pattern in stated
        if pattern.endswith("/**")
        for file in (folder / pattern[:-3]).rglob("*")
        if file.is_file()
    }
    assert {file for file in files - covered - below if file.parent.name != "LICENSES"} == set()


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if slow else ()) for n, slow in TUTORIALS.items()],
)
def test_a_tutorial_gives_what_its_page_shows(name, tmp_path, monkeypatch):
    folder = ROOT / "docs/tutorials"
    monkeypatch.syspath_prepend(str(folder))
    scores = runpy.run_path(str(folder / f"{name}.py"))["main"](tmp_path)
    shown = {
        line[:40].strip(): float(line[40:])
        for line in (folder / f"images/{name}.txt").read_text().splitlines()
    }
    # a figure differs in its last digits from processor to processor
    assert scores == pytest.approx(shown, abs=0.05)
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_every_tutorial_is_tested():
    pages = {page.stem for page in (ROOT / "docs/tutorials").glob("*.md")} - {"index"}
    assert pages == set(TUTORIALS)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed; docs/requirements.txt has it")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**environment(), "NO_MKDOCS_2_WARNING": "1", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "architecture.html").is_file()
