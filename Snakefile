# emgen: restores volume electron microscopy and says how far the result can be trusted.
#
#   input.ome.zarr -> plan -> restore (job 0..N, one GPU each) -> stitch (job 0..N) -> restored.ome.zarr
#                          -> calibrate (several samples)             -> pyramid
#                                                                     -> one rule a metric -> report
#
# Settings: config/config.yaml describes every key; give your own with --configfile my.yaml.
# Workflows of their own: workflow/train.smk trains a network, benchmarks/Snakefile draws the figures of the
# published supplement.
from snakemake.utils import min_version

min_version("9.27")


include: "rules/common.smk"
include: "rules/restore.smk"
include: "rules/volume.smk"
include: "rules/qc.smk"


rule all:
    default_target: True
    input:
        report=f"{RUN}/report.html",
        summary=f"{RUN}/qc/summary.json",
        provenance=f"{RUN}/provenance/run.json",
        crate=f"{RUN}/ro-crate-metadata.json",
        pyramid=PYRAMID,
    localrule: True
    params:
        volume=f"{RUN}/restored.ome.zarr",
    message:
        "Done. Report: {input.report}; volume: {params.volume}"
