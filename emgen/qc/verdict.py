"""A check: one figure against its limits, with a verdict and a reason in plain words.

Limits stand beside the metric that uses them, each with the reason for its number, and every check
carries its own into `summary.json`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from emgen.config.facts import Figures

Verdict = Literal["pass", "warn", "fail"]
VERDICTS: tuple[Verdict, Verdict, Verdict] = ("pass", "warn", "fail")


class Check(Figures):
    """The verdict of one figure.

    The verdict is pass if `value` <= `warn`, warn if `value` <= `fail`, else fail; with `higher` the
    inequalities are reversed. A check fails where the result should not be used as it is, and warns
    where somebody should look.
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


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of some verdicts; pass if there are none.

    >>> worst(["pass", "fail", "warn"])
    'fail'
    """
    return max(verdicts, key=VERDICTS.index, default="pass")
