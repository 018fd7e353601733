"""Quality control: how far a restored volume can be trusted, measured beside linear interpolation.

    sample     which tiles of the output are measured
    metrics/   one file a metric: what is measured, how it is judged, how the report shows it
    summary    qc/summary.json: the figures and verdicts of all metrics
    report/    report.html: the page around the metrics' parts

The other modules are arithmetic that metrics share: sums over tiles, grey value errors, Fourier
shells, steps at block faces, a segmenter and its errors.
"""
