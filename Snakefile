# emgen: restores volume electron microscopy and says how far the result can be trusted.
#
#   input.ome.zarr -> plan -> restore (job 0..N, one GPU each) -> stitch (job 0..N) -> restored.ome.zarr
#                          -> calibrate (several samples)             -> pyramid
#                                                                     -> one rule a metric -> report
#
# Settings: config/config.yaml describes every key; give your own with --configfile my.yaml.
# Apart from any volume, `snakemake train_prior --config recipe=FILE` trains a prior (rules/prior.smk), and
# `snakemake figures` draws those of the published supplement (rules/figures.smk).
from snakemake.utils import min_version

min_version("9.27")


if "recipe" in config:

    include: "rules/prior.smk"

elif not config:

    include: "rules/figures.smk"

    rule all:
        default_target: True
        input:
            configuration,
        localrule: True

else:

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
            crate=f"{RUN}/provenance/ro-crate-metadata.json",
        localrule: True
        params:
            volume=f"{RUN}/restored.ome.zarr",
        message:
            "Done. Report: {input.report}; volume: {params.volume}"
