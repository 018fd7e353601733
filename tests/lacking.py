"""What scripts lack to start: `python lacking.py SCRIPT ...` prints it as JSON, by path, null for a script that starts.

A script is imported, not run; then its `main` is asked for --help. A module without `main` is only imported.
"""

import ast
import contextlib
import importlib
import io
import json
import sys
from pathlib import Path
from types import ModuleType


def lacking(script: Path) -> str | None:
    """The first fault in a sentence."""
    tree = ast.parse(script.read_text())
    try:
        module = loaded(script, tree)
        check_names(module, tree)
    except Exception as error:  # whatever an import may raise is what was asked for
        return f"{type(error).__name__}: {error}"
    return unanswered(script, module) if hasattr(module, "main") else None


def loaded(script: Path, tree: ast.Module) -> ModuleType:
    """The script as a module; of one that Snakemake starts the imports alone, because it gives it an object."""
    if not any(isinstance(node, ast.Name) and node.id == "snakemake" for node in ast.walk(tree)):
        return importlib.import_module(script.stem)
    module = ModuleType(script.stem)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), str(script), "exec"), module.__dict__)
    return module


def check_names(module: ModuleType, tree: ast.Module) -> None:
    """`AttributeError` or `ImportError` for a name that a function would miss when it is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and is_ours(node.module):
            exec(compile(ast.Module([node], []), module.__name__, "exec"), {})
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = getattr(module, node.value.id, None)
            if isinstance(owner, ModuleType):
                getattr(owner, node.attr)


def is_ours(module: str | None) -> bool:
    """Whether it is part of emgen: others may be optional."""
    return module is not None and module.split(".")[0] == "emgen"


def unanswered(script: Path, module: ModuleType) -> str | None:
    """What --help ends with, None where it ends with an answer."""
    sys.argv = [script.name, "--help"]
    answer = io.StringIO()
    try:
        with contextlib.redirect_stdout(answer):
            module.main()
    except SystemExit as end:
        if end.code == 0 and answer.getvalue().startswith(f"usage: {script.name}"):
            return None
        return f"--help ends with {end.code} and {answer.getvalue()!r}"
    return "--help does not end it"


if __name__ == "__main__":
    scripts = [Path(name) for name in sys.argv[1:]]
    sys.path[:0] = dict.fromkeys(str(script.parent) for script in scripts)
    print(json.dumps({str(script): lacking(script) for script in scripts}))
