# The prior adapted to the input, where restore.adapt asks for it; it belongs to the input and not to the
# run, so that other runs on the same input find it.
ADAPTED = (
    {"adapted": f"results/adapted/{SPEC.adaptation}/{SPEC.adaptation}.safetensors"}
    if SPEC.adaptation
    else {}
)


rule adapt:
    output:
        weights="results/adapted/{name}/{name}.safetensors",
        card="results/adapted/{name}/{name}.json",
    log:
        "results/adapted/{name}/adapt.log",
    benchmark:
        "results/adapted/{name}/benchmark.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        mem_mb=8000,
        runtime=240,
        gpu_slot=1,
    params:
        # no more than the adaptation depends on: other runs on the same input shall find it
        volume=CONFIG.input.volume,
        lost=CONFIG.input.lost,
        voxel=CONFIG.input.voxel_size,
        prior=str(SPEC.prior.path.resolve()),
        steps=CONFIG.restore.adapt.steps,
        seed=CONFIG.restore.seed,
        noise=SPEC.mode.noise_setting,
    message:
        "Adapting the prior to the sections of the input; see {log}"
    script:
        "../scripts/adapt.py"


# The point spread function where nobody knows it (psf: blind).
FITTED = {"psf": f"{RUN}/psf.json"} if SPEC.mode.fits_psf else {}


rule psf:
    input:
        inspected=ancient(f"{RUN}/qc/inspect.json"),
    output:
        psf=f"{RUN}/psf.json",
    log:
        f"{RUN}/logs/psf.log",
    benchmark:
        f"{RUN}/benchmarks/psf.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
        gpu_slot=1,
    params:
        # no more than the fit depends on: other settings must not fit it anew
        settings=CONFIG.model_dump(
            mode="json",
            include={
                "input": True,
                "restore": {"mode", "psf", "noise", "prior", "seed"},
            },
        ),
        prior=SPEC.prior.sha256,
        version=__version__,
    message:
        "Fitting the point spread function to the input"
    script:
        "../scripts/psf.py"


# What is in the input: bad input ends the run here, before anything is restored.
rule inspect:
    output:
        findings=f"{RUN}/qc/inspect.json",
    log:
        f"{RUN}/logs/inspect.log",
    benchmark:
        f"{RUN}/benchmarks/inspect.tsv"
    localrule: True
    conda:
        "../envs/core.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        # no more than what is found depends on
        settings=CONFIG.model_dump(
            mode="json",
            include={"run": True, "input": True, "restore": True},
        ),
        version=__version__,
    message:
        "Looking at the input"
    script:
        "../scripts/inspect.py"


rule plan:
    input:
        **ADAPTED,
        **FITTED,
        inspected=ancient(f"{RUN}/qc/inspect.json"),
    output:
        planned=f"{RUN}/planned.json",
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
        settings=CONFIG.model_dump(mode="json", exclude={"qc"}),
        version=__version__,
    message:
        f"Planning {RUN}: grey values, noise and the empty output"
    script:
        "../scripts/plan.py"


rule restore:
    input:
        plan=PLANNED,
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
        mem_mb=projected_memory,
        runtime=120,
        gpu_slot=1,
    params:
        jobs=SPEC.grid.jobs,
        version=__version__,
    message:
        "Restoring blocks, job {wildcards.job} of {params.jobs}"
    script:
        "../scripts/restore.py"


# What the input's own sections say of the spread of samples.
CALIBRATED = {"calibration": f"{RUN}/calibration.json"} if CONFIG.restore.samples > 1 else {}


rule calibrate:
    input:
        plan=PLANNED,
    output:
        facts=f"{RUN}/calibration.json",
    log:
        f"{RUN}/logs/calibrate.log",
    benchmark:
        f"{RUN}/benchmarks/calibrate.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        mem_mb=4000,
        runtime=120,
        gpu_slot=1,
    params:
        version=__version__,
    message:
        "Trying the restoration on sections of the input: is the samples' spread as large as their error?"
    script:
        "../scripts/calibrate.py"
