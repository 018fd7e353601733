rule stitch:
    input:
        **CALIBRATED,
        plan=PLANNED,
        blocks=overlapping_jobs,
    output:
        facts=f"{RUN}/stitch/{{job}}.json",
    log:
        f"{RUN}/logs/stitch/{{job}}.log",
    benchmark:
        f"{RUN}/benchmarks/stitch/{{job}}.tsv"
    conda:
        "../envs/core.yaml"
    threads: 1
    resources:
        mem_mb=SPEC.stitch_memory_mb,
        runtime=60,
    message:
        "Stitching the cores of job {wildcards.job}"
    script:
        "../scripts/stitch.py"


rule restored:
    input:
        plan=PLANNED,
        blocks=expand(f"{RUN}/blocks/{{job}}.json", job=JOBS),
        stitched=expand(f"{RUN}/stitch/{{job}}.json", job=JOBS),
    output:
        facts=f"{RUN}/restored.json",
    log:
        f"{RUN}/logs/restored.log",
    benchmark:
        f"{RUN}/benchmarks/restored.tsv"
    localrule: True
    conda:
        "../envs/core.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    message:
        "Adding up what every job did"
    script:
        "../scripts/restored.py"


rule pyramid:
    input:
        plan=PLANNED,
        finer=finer_level,
    output:
        facts=f"{RUN}/pyramid/{{level}}.json",
    log:
        f"{RUN}/logs/pyramid/{{level}}.log",
    benchmark:
        f"{RUN}/benchmarks/pyramid/{{level}}.tsv"
    conda:
        "../envs/core.yaml"
    threads: 4
    resources:
        mem_mb=8000,
        runtime=120,
    message:
        "Averaging level {wildcards.level} of the pyramid"
    script:
        "../scripts/pyramid.py"


rule provenance:
    input:
        plan=PLANNED,
        restored=f"{RUN}/restored.json",
    output:
        run=f"{RUN}/provenance/run.json",
        crate=f"{RUN}/ro-crate-metadata.json",
        # where versions before 0.2 wrote it
        former=f"{RUN}/provenance/ro-crate-metadata.json",
    log:
        f"{RUN}/logs/provenance.log",
    benchmark:
        f"{RUN}/benchmarks/provenance.tsv"
    localrule: True
    conda:
        "../envs/core.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=CONFIG.model_dump(mode="json", exclude={"qc"}),
        qc=CONFIG.qc.model_dump(mode="json"),
    message:
        "Writing down what made the result"
    script:
        "../scripts/provenance.py"
