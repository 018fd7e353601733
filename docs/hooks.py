"""The site shows files that lie outside docs/ too: README is its first page, and what a page links to comes with it.

A link is written as the repository has it, `../benchmarks/speed.md`, and so works where the repository is browsed; here
it is turned into a link of the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
DOCS = "docs/"
ELSEWHERE = "repository/"  # where the site has files from outside docs/ that are not named here:
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root, and whatever pages link to outside docs/."""
    waiting = [*PAGES, *(DOCS + page.src_uri for page in files.documentation_pages())]
    known = set(waiting)
    for path in PAGES:
        files.append(_file(path, config))
    while waiting:
        path = waiting.pop()
        for target in _targets(path):
            if target in known or target.startswith(DOCS):
                continue
            known.add(target)
            files.append(_file(target, config))
            if target.endswith(".md"):
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links to files of the repository into links of the site."""
    here = page.file.src_uri
    path = _repository_path(here)

    def rewritten(link: re.Match[str]) -> str:
        target = _resolved(path, link[2])
        if not (ROOT / target).is_file():
            return link[0]  # for mkdocs to warn of
        uri = posixpath.relpath(_site_path(target), posixpath.dirname(here) or ".")
        return f"{link[1]}{uri}{link[3]}"

    return LINK.sub(rewritten, markdown)


def _targets(path: str) -> list[str]:
    text = (ROOT / path).read_text()
    targets = [_resolved(path, link[2]) for link in LINK.finditer(text)]
    return [target for target in targets if (ROOT / target).is_file()]


def _resolved(path: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def _site_path(path: str) -> str:
    inside = path.removeprefix(DOCS) if path.startswith(DOCS) else ELSEWHERE + path
    return PAGES.get(path, inside)


def _repository_path(uri: str) -> str:
    roots = {page: path for path, page in PAGES.items()}
    inside = uri.removeprefix(ELSEWHERE) if uri.startswith(ELSEWHERE) else DOCS + uri
    return roots.get(uri, inside)


def _file(path: str, config: Any) -> File:
    return File.generated(config, _site_path(path), abs_src_path=str(ROOT / path))
