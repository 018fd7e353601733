rule plan:
    output:
        plan=f"{RUN}/plan.json",
    log:
        f"{RUN}/logs/plan.log",
    benchmark:
        f"{RUN}/benchmarks/plan.tsv"
    localrule: True
    conda:
        "../envs/core.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=CONFIG.model_dump(mode="json"),
        version=__version__,
    message:
        f"Planning {RUN}: grey values, noise and the empty output"
    script:
        "../scripts/plan.py"


rule restore:
    input:
        plan=ancient(f"{RUN}/plan.json"),
    output:
        # the voxels go to blocks/<job>.zarr: Snakemake would delete a folder of a failed job, and with
        # it the blocks that need not be computed again
        facts=f"{RUN}/blocks/{{job}}.json",
    log:
        f"{RUN}/logs/restore/{{job}}.log",
    benchmark:
        f"{RUN}/benchmarks/restore/{{job}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        mem_mb=DRAFT.memory_mb,
        runtime=120,
        gpu_slot=1,
    params:
        store=f"{RUN}/blocks/{{job}}.zarr",
        jobs=DRAFT.grid.jobs,
        version=__version__,
    message:
        "Restoring blocks, job {wildcards.job} of {params.jobs}"
    script:
        "../scripts/restore.py"
