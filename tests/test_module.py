"""The workflow as a part of another: through the catalog's Snakefile, and as a module with a prefix."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from runs import ROOT, environment, measured, read, restore, settings

MODULE = """
configfile: "settings.yaml"

module emgen:
    snakefile: "{root}/Snakefile"
    config: config
    prefix: "tissue"

use rule * from emgen as emgen_*

rule largest:
    default_target: True
    input: "tissue/results/small/report.html"
    output: "largest.txt"
    shell: "ls tissue/results/small > {{output}}"
"""


def snakemake(folder: Path, snakefile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), *options]
    return subprocess.run(
        [*words, "--cores", "2", "--workflow-profile", "none"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def outer(tmp_path) -> Path:
    """A workflow of somebody else's that uses emgen as a module."""
    (tmp_path / "Snakefile").write_text(MODULE.format(root=ROOT))
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings(measured(tmp_path))))
    return tmp_path


def test_the_catalogs_snakefile_restores_what_config_yaml_names(tmp_path):
    (tmp_path / "config").mkdir()
    text = yaml.safe_dump(settings(measured(tmp_path)))
    (tmp_path / "config/config.yaml").write_text(text)
    done = snakemake(tmp_path, ROOT / "workflow/Snakefile", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Restoring blocks, job 1 of 5" in done.stdout
    catalog = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())
    assert {"mandatory-flags", "software-stack-deployment", "report"} == set(catalog["usage"])
    assert (ROOT / "config/README.md").exists()


def test_a_module_with_a_prefix_is_planned_under_it(outer):
    done = snakemake(outer, outer / "Snakefile", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "emgen_report" in done.stdout and "tissue/results/small/report.html" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_module_with_a_prefix_writes_nothing_outside_it(outer):
    done = snakemake(outer, outer / "Snakefile")
    assert done.returncode == 0, done.stderr
    assert not (outer / "results").exists()
    _, voxels = restore(outer / "expected", settings(outer / "measured.ome.zarr"))
    assert (read(outer / "tissue/results/small") == voxels).all()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_module_with_a_prefix_refuses_other_settings(outer):
    target = "tissue/results/small/planned.json"
    assert snakemake(outer, outer / "Snakefile", target).returncode == 0
    path = outer / "settings.yaml"
    path.write_text(path.read_text().replace("steps: 3", "steps: 2"))
    done = snakemake(outer, outer / "Snakefile", target)
    assert done.returncode != 0 and "restore.steps was 3, now 2" in done.stderr
