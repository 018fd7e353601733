"""What the profiles ask of a machine, and that they leave to the rules what only the rules know."""

import re

import yaml
from runs import ROOT
from test_boundaries import RULES

from emgen.qc.metrics import METRICS


def profile(name: str) -> dict:
    return yaml.safe_load((ROOT / f"profiles/{name}/config.yaml").read_text())


def rules() -> dict[str, str]:
    """The text of every rule by its name."""
    parts = [re.split(r"^\s*rule ", path.read_text(), flags=re.MULTILINE)[1:] for path in RULES]
    return {rule.split(":")[0]: rule for texts in parts for rule in texts}


def test_the_profile_that_is_always_loaded_spoils_no_other():
    default, cluster = profile("default"), profile("slurm")
    assert {key for key in default.keys() & cluster.keys() if default[key] != cluster[key]} == set()
    assert not default.keys() & {
        "cores",
        "jobs",
        "executor",
        "retries",
        "default-resources",
        "set-resources",
        "set-threads",
    }


def test_every_rule_that_computes_on_a_gpu_gets_one_from_slurm():
    on_gpu = {name for name, rule in rules().items() if "gpu_slot=1" in rule}
    on_gpu |= {"train_prior"} | {metric.name for metric in METRICS if metric.needs.gpu}
    given = {
        name: resources
        for name, resources in profile("slurm")["set-resources"].items()
        if "gres" in resources
    }
    assert on_gpu == set(given) and {"restore", "calibrate"} < on_gpu
    assert {resources["slurm_partition"] for resources in given.values()} == {"gpu"}


def test_slurm_sets_resources_of_rules_that_exist():
    metrics = {metric.name for metric in METRICS}
    assert set(profile("slurm")["set-resources"]) <= set(rules()) | metrics


def test_slurm_is_asked_for_the_memory_that_was_projected():
    # restore projects its memory from the blocks and the threads that the job has; a number here would replace it
    assert "mem_mb" not in profile("slurm")["set-resources"]["restore"]
    assert not re.search(r"mem_mb=\d+\b", rules()["restore"])
