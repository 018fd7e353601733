"""The wheel carries the workflow: what Snakemake reads is copied from the root of the tree into emgen/workflow/.

Everything else about the package stands in pyproject.toml. In an editable install nothing is copied: there
`emgen.cli.workflow` finds the files at the root of the checkout.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
WORKFLOW = (
    *("Snakefile", "workflow", "rules", "scripts", "envs", "profiles", "config", "report"),
    "demo",
)
# how the demo's volumes were made is for developers
LEFT_OUT = shutil.ignore_patterns("__pycache__", "make_*.py")


class BuildWithWorkflow(build_py):
    """Copies the workflow beside the modules."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "emgen" / "workflow"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in WORKFLOW:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, target / name, ignore=LEFT_OUT)
            else:
                shutil.copyfile(source, target / name)


setup(cmdclass={"build_py": BuildWithWorkflow})
