"""The licences of everything that emgen needs to run, from the installed packages' own metadata, into docs/licences.md.

.venv/bin/python .ci/licences.py
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "licences.md"
HEAD = """# Licences of what emgen needs

emgen itself is under the MIT licence (`LICENSE`), the demo's volumes under the licence that stands beside them in `demo/`.
The packages below are those of `requirements.txt`, each with the licence that its own metadata states. They are not part of
emgen: pip installs them. The page is written by `.ci/licences.py`, and a test keeps it in step.

On Linux with an NVIDIA GPU, `torch` also brings NVIDIA's CUDA libraries, which are under
[NVIDIA's own terms](https://docs.nvidia.com/cuda/eula/).

| package | version | licence |
|---|---|---|
"""
# what classifiers and free text call them, and their SPDX names
SPDX = {
    "Apache Software License": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache": "Apache-2.0",
    "BSD License": "BSD",
    "BSD 3-Clause License": "BSD-3-Clause",
    "BSD 3-Clause": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
# where the metadata list parts or choices and do not say which
STATED = {
    "docutils": "public domain AND BSD-2-Clause (the part under the GPL, for Emacs, is not in its wheel)",
    "packaging": "Apache-2.0 OR BSD-2-Clause",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
}
CLASSIFIER = re.compile(r"License :: (?:OSI Approved :: )?(.+)")


def requirements() -> list[Requirement]:
    """The pins of requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def licence(package: Distribution) -> str:
    """What a package's metadata states: an SPDX expression, or the short name that stands there.

    Raises:
        ValueError: nothing is stated.
    """
    facts = package.metadata
    if package.name in STATED:
        return STATED[package.name]
    if expression := facts.get("License-Expression"):
        return expression
    classified = CLASSIFIER.findall("\n".join(facts.get_all("Classifier") or []))
    # some packages put the whole text into the field for the name
    named = [name] if (name := (facts.get("License") or "").strip()) and len(name) < 60 else []
    names = named or [name for name in classified if name != "OSI Approved"] or _titles(package)
    if not names:
        raise ValueError(f"the metadata of {package.name} state no licence; look it up")
    return " AND ".join(dict.fromkeys(SPDX.get(name, name) for name in names))


def _titles(package: Distribution) -> list[str]:
    """The first line of every licence text that a package brings, such as `MIT License`."""
    texts = [file for file in package.files or () if file.name.startswith(("LICENSE", "LICENCE"))]
    return [text.read_text().lstrip().splitlines()[0] for text in texts]


def page() -> str:
    """The text of docs/licences.md."""
    rows = [(each.name, distribution(each.name)) for each in requirements()]
    return HEAD + "".join(
        f"| {name} | {package.version.split('+')[0]} | {licence(package)} |\n"
        for name, package in rows
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
