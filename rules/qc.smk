# How far the result can be trusted. What needs a ground truth is measured where qc.reference is set.
FIGURES = {name: f"{RUN}/qc/{name}.json" for name in ("seams", "consistency")}
if CONFIG.qc.reference:
    FIGURES |= {name: f"{RUN}/qc/{name}.json" for name in ("image", "fsc", "segmentation")}
    FIGURES["section"] = f"{RUN}/qc/segmentation.npz"


rule seams:
    input:
        plan=f"{RUN}/plan.json",
        restored=f"{RUN}/restored.json",
    output:
        figures=f"{RUN}/qc/seams.json",
    log:
        f"{RUN}/logs/seams.log",
    benchmark:
        f"{RUN}/benchmarks/seams.tsv"
    conda:
        "../envs/qc.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        volume=f"{RUN}/restored.ome.zarr",
        qc=CONFIG.qc.model_dump(mode="json"),
        version=__version__,
    message:
        "Looking for traces of the block grid"
    script:
        "../scripts/seams.py"


rule consistency:
    input:
        plan=f"{RUN}/plan.json",
        restored=f"{RUN}/restored.json",
    output:
        figures=f"{RUN}/qc/consistency.json",
    log:
        f"{RUN}/logs/consistency.log",
    benchmark:
        f"{RUN}/benchmarks/consistency.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 4
    resources:
        mem_mb=16000,
        runtime=120,
    params:
        volume=f"{RUN}/restored.ome.zarr",
        qc=CONFIG.qc.model_dump(mode="json"),
        version=__version__,
    message:
        "Degrading the result again and comparing it with the input"
    script:
        "../scripts/consistency.py"


if CONFIG.qc.reference:

    rule image:
        input:
            plan=f"{RUN}/plan.json",
            restored=f"{RUN}/restored.json",
        output:
            figures=f"{RUN}/qc/image.json",
        log:
            f"{RUN}/logs/image.log",
        benchmark:
            f"{RUN}/benchmarks/image.tsv"
        conda:
            "../envs/qc.yaml"
        threads: 4
        resources:
            mem_mb=8000,
            runtime=120,
        params:
            volume=f"{RUN}/restored.ome.zarr",
            qc=CONFIG.qc.model_dump(mode="json"),
            version=__version__,
        message:
            "Comparing grey values with the reference"
        script:
            "../scripts/image.py"

    rule fsc:
        input:
            plan=f"{RUN}/plan.json",
            restored=f"{RUN}/restored.json",
        output:
            figures=f"{RUN}/qc/fsc.json",
        log:
            f"{RUN}/logs/fsc.log",
        benchmark:
            f"{RUN}/benchmarks/fsc.tsv"
        conda:
            "../envs/qc.yaml"
        threads: 4
        resources:
            mem_mb=16000,
            runtime=120,
        params:
            volume=f"{RUN}/restored.ome.zarr",
            qc=CONFIG.qc.model_dump(mode="json"),
            version=__version__,
        message:
            "Fourier shell correlation with the reference"
        script:
            "../scripts/fsc.py"

    rule segmentation:
        input:
            plan=f"{RUN}/plan.json",
            restored=f"{RUN}/restored.json",
        output:
            figures=f"{RUN}/qc/segmentation.json",
            section=f"{RUN}/qc/segmentation.npz",
        log:
            f"{RUN}/logs/segmentation.log",
        benchmark:
            f"{RUN}/benchmarks/segmentation.tsv"
        conda:
            "../envs/qc.yaml"
        threads: 4
        resources:
            mem_mb=16000,
            runtime=240,
        params:
            volume=f"{RUN}/restored.ome.zarr",
            qc=CONFIG.qc.model_dump(mode="json"),
            version=__version__,
        message:
            "Segmenting the result, linear interpolation and the reference alike"
        script:
            "../scripts/segmentation.py"


rule report:
    input:
        **FIGURES,
        **CALIBRATED,
        plan=f"{RUN}/plan.json",
        pyramid=[f"{RUN}/pyramid/{LAST_LEVEL}.json"] if LAST_LEVEL else [],
        facts=f"{RUN}/provenance/run.json",
    output:
        html=report(f"{RUN}/report.html", caption="../report/report.rst", category="Quality"),
        summary=report(
            f"{RUN}/qc/summary.json",
            caption="../report/summary.rst",
            category="Quality",
        ),
    log:
        f"{RUN}/logs/report.log",
    benchmark:
        f"{RUN}/benchmarks/report.tsv"
    localrule: True
    conda:
        "../envs/qc.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        qc=CONFIG.qc.model_dump(mode="json"),
        version=__version__,
    message:
        "Writing the report"
    script:
        "../scripts/report.py"
