"""A copy of the package with a file more and a word more: how others would extend emgen."""

import shutil
from pathlib import Path

from runs import ROOT


def package(folder: Path, files: dict[str, str], words: dict[str, tuple[str, str]]) -> Path:
    """A copy of the project that holds emgen with new files and changed words; a folder for PYTHONPATH too.

    Args:
        folder: where the copy is made; the files that stay as they are become links.
        files: text of each new file, by its path under emgen/.
        words: what is replaced in a file that is there, by its path under emgen/: once, from, to.
    """
    shutil.copytree(
        ROOT / "emgen",
        folder / "emgen",
        copy_function=lambda file, link: Path(link).symlink_to(file),
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("Snakefile", "rules", "scripts", "envs", "report"):
        (folder / name).symlink_to(ROOT / name)
    for name, text in files.items():
        (folder / "emgen" / name).write_text(text)
    for name, (before, after) in words.items():
        text = (ROOT / "emgen" / name).read_text()
        assert text.count(before) == 1, f"{before!r} should stand in {name} once"
        (folder / "emgen" / name).unlink()
        (folder / "emgen" / name).write_text(text.replace(before, after))
    return folder
