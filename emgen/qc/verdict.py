"""A check: one figure against its limits, with a verdict and a reason in plain words.

Limits stand beside the metric that uses them, each with the reason for its number, and every check
carries its own into `summary.json`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from emgen.config.facts import Figures

Verdict = Literal["pass", "warn", "fail", "not tested"]
VERDICTS: tuple[Verdict, ...] = ("pass", "warn", "fail", "not tested")
URGENCY: tuple[Verdict, ...] = ("fail", "warn", "not tested", "pass")
"""The verdicts in the order in which a reader needs them."""


class Check(Figures):
    """The verdict of one figure.

    The verdict is pass if `value` <= `warn`, warn if `value` <= `fail`, else fail; with `higher` the
    inequalities are reversed. A check fails where the result should not be used as it is, and warns
    where somebody should look. It is not tested where nothing was put to a test: where there was too little to measure,
    or where no result whatever could have failed.
    """

    name: str
    verdict: Verdict
    measure: str = Field(description="What `value`, `warn` and `fail` are.")
    value: float | None
    warn: float | None = None
    fail: float | None = None
    higher: bool = False
    unit: str = ""
    reason: str
    decisive: bool = Field(
        default=False,
        description=(
            "Whether passing it speaks for the result: what was restored was compared with what was measured there, or with "
            "the truth."
        ),
    )


def judged(value: float, warn: float, fail: float, *, higher: bool = False) -> Verdict:
    """The verdict of a value: pass up to `warn`, warn up to `fail`, fail beyond.

    Args:
        value: the figure.
        warn: the last value that passes.
        fail: the last value that warns.
        higher: whether greater values are better, so that the limits are lower bounds.

    >>> judged(2.5, 2, 3), judged(-0.2, 0, -1, higher=True)
    ('warn', 'warn')
    """
    sign = -1 if higher else 1
    if sign * value <= sign * warn:
        return "pass"
    return "warn" if sign * value <= sign * fail else "fail"


def not_tested(name: str, reason: str, *, measure: str = "", decisive: bool = False) -> Check:
    """A check that was not made, and why."""
    return Check(
        name=name,
        verdict="not tested",
        measure=measure,
        value=None,
        reason=reason,
        decisive=decisive,
    )


def overall(checks: Iterable[Check]) -> Verdict:
    """The verdict of a run.

    It fails if any check fails. It is not tested if no decisive check was made: what is left then cannot tell a good
    result from a bad one. It warns if any check warns, and passes otherwise.
    """
    checks = list(checks)
    verdicts = {check.verdict for check in checks}
    if "fail" in verdicts:
        return "fail"
    if not any(check.decisive and check.verdict != "not tested" for check in checks):
        return "not tested"
    return "warn" if "warn" in verdicts else "pass"


def by_urgency(checks: Iterable[Check]) -> list[Check]:
    """Checks in the order of `URGENCY`, decisive ones first among equals."""
    return sorted(checks, key=lambda check: (URGENCY.index(check.verdict), not check.decisive))


ADVICE: dict[Verdict, str] = {
    "pass": "Use the result",
    "warn": "Look before you use the result",
    "fail": "Do not use the result as it is",
    "not tested": "Nothing says whether the result can be trusted",
}


def advice(checks: Iterable[Check]) -> str:
    """One sentence: whether to use the result, and why."""
    checks = by_urgency(checks)
    verdict = overall(checks)
    reasons = [c for c in checks if c.verdict == verdict and (c.decisive or verdict != "pass")]
    if not reasons:
        return f"{ADVICE[verdict]}: no test of it was made."
    first, more = reasons[0].reason, len(reasons) - 1
    others = "" if verdict in ("pass", "not tested") or not more else f" ({more} more of this kind)"
    return f"{ADVICE[verdict]}: {first[:1].lower()}{first[1:].removesuffix('.')}{others}."
