# Without a configuration there is no volume to restore, but there are figures to draw:
#
#   snakemake figures --cores all
#
# those of the published supplement, with our prior and on the demo's data.
from pathlib import Path

from snakemake.exceptions import WorkflowError

FIGURES = [2, 3, 4, 5, 12, 13]


def configuration(wildcards):
    """What is missing where only `snakemake` was called."""
    raise WorkflowError(
        "there is no configuration; give one: snakemake --configfile my.yaml --cores all "
        "(config/config.yaml describes every key)"
    )


rule figures:
    input:
        expand("benchmarks/figures/{number}.png", number=FIGURES),
    localrule: True


rule figure:
    output:
        picture="benchmarks/figures/{number}.png",
        facts="benchmarks/figures/{number}.json",
    log:
        "benchmarks/figures/{number}.log",
    benchmark:
        "benchmarks/figures/{number}.tsv"
    conda:
        "../envs/qc.yaml"
    threads: 8
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        benchmarks=Path(workflow.basedir) / "benchmarks",
    message:
        "Drawing figure {wildcards.number}; see {log}"
    script:
        "../scripts/figure.py"
