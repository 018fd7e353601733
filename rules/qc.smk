# How far the result can be trusted: one rule a metric, made from what the metric says it needs, and the
# report. A metric is a file in emgen/qc/metrics; profiles give its rule resources by the metric's name.
from emgen.qc.metrics import METRICS

MEASURED = [metric for metric in METRICS if metric.applies(CONFIG)]

for METRIC in MEASURED:

    rule:
        name:
            METRIC.name
        input:
            **(CALIBRATED if METRIC.needs.samples else {}),
            plan=PLANNED,
            restored=f"{RUN}/restored.json",
        output:
            **METRIC.files(f"{RUN}/qc"),
        log:
            f"{RUN}/logs/{METRIC.name}.log",
        benchmark:
            f"{RUN}/benchmarks/{METRIC.name}.tsv"
        conda:
            f"../envs/{METRIC.needs.environment}.yaml"
        threads: METRIC.needs.threads
        resources:
            mem_mb=METRIC.needs.memory_mb,
            runtime=METRIC.needs.runtime_min,
            gpu_slot=int(METRIC.needs.gpu),
        params:
            metric=METRIC.name,
            qc=CONFIG.qc.model_dump(mode="json"),
            version=__version__,
        message:
            METRIC.message
        script:
            "../scripts/metric.py"


rule report:
    input:
        **{
            f"{metric.name}_{kind}": path
            for metric in MEASURED
            for kind, path in metric.files(f"{RUN}/qc").items()
        },
        plan=PLANNED,
        pyramid=[f"{RUN}/pyramid/{LAST_LEVEL}.json"] if LAST_LEVEL else [],
        facts=f"{RUN}/provenance/run.json",
        inspected=f"{RUN}/qc/inspect.json",
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
