"""From figures to pass, warn or fail, with a reason in plain words.

Thresholds stand here and nowhere else, and every check carries its own into `summary.json`. A check
fails where the result should not be used as it is, and warns where somebody should look.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from emgen import __version__
from emgen.plan import Plan
from emgen.qc.seams import FAIL, WARN
from emgen.qc.summary import (
    Axis,
    Check,
    Consistency,
    Fsc,
    Image,
    ObjectErrors,
    Pair,
    Plane,
    Resolved,
    Seam,
    Seams,
    Sector,
    Segmentation,
    Summary,
    Uncertainty,
    Verdict,
    worst,
)

# Per cent of the input's grey range: what the degraded result may differ from noiseless input.
MISFIT = (1.0, 3.0)
# Over the noise: what it may differ from noisy input; and below the last number noise was kept.
MISFIT_NOISE, OVERFIT_NOISE = (1.5, 3.0), 0.3
# Restored less interpolated: dB, mean SSIM of xz and yz.
PSNR_GAIN, SSIM_GAIN = (0.0, -1.0), (0.0, -0.02)
# Restored over interpolated: period in nm at FSC 0.5, VOI in bits.
RESOLUTION, VOI = (1.02, 1.2), (1.0, 1.1)
# Power at high frequencies over the reference's.
POWER = (0.5, 1.5)
# Voxels by which the result and its reference may be apart.
SHIFT = 0.5


def summarise(
    plan: Plan,
    seams: Seams,
    consistency: Consistency,
    image: Image | None = None,
    fsc: Fsc | None = None,
    segmentation: Segmentation | None = None,
    uncertainty: Uncertainty | None = None,
) -> Summary:
    """Everything that was measured of a run, judged."""
    checks = [check_seams(seams), check_consistency(consistency)]
    if image is not None:
        checks += check_image(image)
    if fsc is not None:
        checks += check_fsc(fsc, plan.config.restore.mode == "isotropic")
    if segmentation is not None:
        checks.append(check_segmentation(segmentation))
    return Summary(
        emgen=__version__,
        run=plan.config.run,
        key=plan.key,
        verdict=worst([check.verdict for check in checks]),
        checks=checks,
        seams=seams,
        consistency=consistency,
        image=image,
        fsc=fsc,
        segmentation=segmentation,
        uncertainty=uncertainty,
    )


def judged(value: float, warn: float, fail: float, *, higher: bool = False) -> Verdict:
    """Pass up to `warn`, warn up to `fail`, fail beyond.

    >>> judged(2.5, 2, 3), judged(-0.2, 0, -1, higher=True)
    ('warn', 'warn')
    """
    sign = -1 if higher else 1
    if sign * value <= sign * warn:
        return "pass"
    return "warn" if sign * value <= sign * fail else "fail"


def check_seams(seams: Seams) -> Check:
    """Whether the block grid shows, on the axis where it shows most."""
    measure = "score in proportion"
    found: dict[Axis, Seam] = {
        axis: seam for axis, seam in seams.figures.restored.items() if seam.relative is not None
    }
    if not found:
        reason = "The output is a single block: there is nothing to stitch."
        return Check(name="seams", verdict="pass", measure=measure, value=None, reason=reason)
    axis = max(found, key=lambda each: found[each].relative or 0.0)
    seam = found[axis]
    where, height = f"along {axis}, {_offset(seam)}", f"{seam.height_grey:.2g}"
    reason = {
        "pass": f"Steps at the block grid are not larger than elsewhere (most {where}).",
        "warn": f"Steps of about {height} grey values repeat with the blocks {where}: look there.",
        "fail": f"Seams of about {height} grey values repeat with the blocks {where}; "
        "a larger halo may remove them.",
    }[seam.verdict]
    return Check(
        name="seams",
        verdict=seam.verdict,
        measure=measure,
        value=seam.relative,
        warn=WARN,
        fail=FAIL,
        reason=reason,
    )


def _offset(seam: Seam) -> str:
    if not seam.offset:
        return "at the block faces"
    side = "either side of" if seam.paired else "after" if seam.offset > 0 else "before"
    return f"{abs(seam.offset)} voxels {side} the block faces"


def check_consistency(consistency: Consistency) -> Check:
    """Whether the result, degraded again, is what was measured."""
    found = consistency.figures.restored
    if found.rmse_grey is None:
        reason = "The tiles are too small to hold a measured voxel whole: set a larger qc.tile."
        return Check(
            name="consistency", verdict="warn", measure="misfit", value=None, reason=reason
        )
    if found.relative_to_noise is None:
        return _against_range(found.rmse_grey, consistency.grey_range)
    return _against_noise(found.relative_to_noise, consistency.noise_grey)


def _against_range(rmse: float, grey_range: float) -> Check:
    value, (warn, fail) = 100 * rmse / grey_range, MISFIT
    verdict = judged(value, warn, fail)
    found = (
        f"differs from the input by {rmse:.2g} grey values"
        if rmse
        else "is the input, voxel for voxel"
    )
    reason = f"Degraded again, the result {found}{'.' if verdict == 'pass' else ': what was measured was not kept.'}"
    return Check(
        name="consistency",
        verdict=verdict,
        measure="RMSE over the grey range",
        value=value,
        warn=warn,
        fail=fail,
        unit="%",
        reason=reason,
    )


def _against_noise(value: float, noise: float) -> Check:
    warn, fail = MISFIT_NOISE
    verdict, end = judged(value, warn, fail), "."
    if verdict != "pass":
        end = ", more than noise explains: structure was changed."
    elif value < OVERFIT_NOISE:
        verdict, end = "warn", ": most of the noise was kept."
    reason = f"Degraded again, the result differs from the input by {value:.2g} times the input's noise ({noise:.3g} grey values){end}"
    return Check(
        name="consistency",
        verdict=verdict,
        measure="RMSE over the noise",
        value=value,
        warn=warn,
        fail=fail,
        reason=reason,
    )


def check_image(image: Image) -> list[Check]:
    """Whether the grey values are nearer to the reference than those of interpolation."""
    restored, interpolated = image.figures.restored, image.figures.interpolated
    checks = []
    if restored.psnr_db is not None and interpolated.psnr_db is not None:
        gain = restored.psnr_db - interpolated.psnr_db
        reason = f"Grey values are {abs(gain):.2g} dB {'nearer to' if gain >= 0 else 'farther from'} the reference than linear interpolation's."
        checks.append(_gain("psnr", gain, PSNR_GAIN, "dB", reason))
    means = [_across(each.ssim) for each in (restored, interpolated)]
    if means[0] is not None and means[1] is not None:
        gain = means[0] - means[1]
        reason = f"In xz and yz, structure (SSIM) is {'more' if gain >= 0 else 'less'} like the reference's: {means[0]:.3f}; linear interpolation {means[1]:.3f}."
        checks.append(_gain("ssim", gain, SSIM_GAIN, "", reason))
    return checks


def _gain(name: str, gain: float, thresholds: tuple[float, float], unit: str, reason: str) -> Check:
    warn, fail = thresholds
    verdict = judged(gain, warn, fail, higher=True)
    return Check(
        name=name,
        verdict=verdict,
        measure="gain",
        value=gain,
        warn=warn,
        fail=fail,
        higher=True,
        unit=unit,
        reason=reason,
    )


def _across(ssim: Mapping[Plane, float | None]) -> float | None:
    values = [value for plane, value in ssim.items() if plane != "xy" and value is not None]
    return sum(values) / len(values) if values else None


def check_fsc(fsc: Fsc, isotropic: bool) -> list[Check]:
    """Whether detail agrees with the reference, how much of it there is, and whether the two lie alike.

    Along z for an isotropic restoration, else in the plane: where something was restored.
    """
    sector: Sector = "axial" if isotropic else "lateral"
    direction = "Along z" if isotropic else "In the plane"
    pair = Pair(
        restored=fsc.figures.restored.curves[sector].at_half,
        interpolated=fsc.figures.interpolated.curves[sector].at_half,
    )
    checks = [
        _resolution(pair, direction),
        _shift(max(map(abs, fsc.figures.restored.shift.voxels))),
    ]
    power = fsc.figures.restored.fine_power[sector]
    return checks if power is None else [*checks, _power(power, direction)]


def _resolution(pair: Pair[Resolved], direction: str) -> Check:
    restored, interpolated = pair.restored.nm, pair.interpolated.nm
    if restored is None:
        verdict: Verdict = "warn" if interpolated is None else "fail"
        reason = f"{direction}, the result agrees with the reference at no scale: FSC {pair.restored.reason}."
        return Check(
            name="resolution", verdict=verdict, measure="period", value=None, reason=reason
        )
    ratio = 0.0 if interpolated is None else restored / interpolated
    beside = "at no scale" if interpolated is None else f"down to {interpolated:.3g} nm"
    reason = f"{direction}, the result agrees with the reference down to {restored:.3g} nm (FSC 0.5); linear interpolation {beside}."
    warn, fail = RESOLUTION
    return Check(
        name="resolution",
        verdict=judged(ratio, warn, fail),
        measure="period over interpolation's",
        value=ratio,
        warn=warn,
        fail=fail,
        reason=reason,
    )


def _power(power: float, direction: str) -> Check:
    low, high = POWER
    smooth, rough = power < low, power > high
    says = (
        "the result is much smoother, which may be its noise or its detail"
        if smooth
        else "there is much more than there should be"
        if rough
        else "as much as there should be"
    )
    reason = f"{direction}, the finest structure and noise have {power:.2g} times the reference's power: {says}."
    verdict: Verdict = "warn" if smooth or rough else "pass"
    return Check(
        name="fine detail",
        verdict=verdict,
        measure="power over the reference's",
        value=power,
        warn=low if power < 1 else high,
        higher=power < 1,
        reason=reason,
    )


def _shift(shift: float) -> Check:
    apart = "they lie alike" if shift <= SHIFT else "every comparison with it is worth less"
    reason = f"Result and reference are {shift:.2g} voxels apart: {apart}."
    return Check(
        name="shift",
        verdict=judged(shift, SHIFT, math.inf),
        measure="distance",
        value=shift,
        warn=SHIFT,
        unit="voxels",
        reason=reason,
    )


def check_segmentation(segmentation: Segmentation) -> Check:
    """Whether objects come out more like they should than from interpolation."""
    pair: Pair[ObjectErrors] = segmentation.against_labels or segmentation.against_reference
    what = "the reference labels" if segmentation.against_labels else "the reference"
    restored, interpolated = (
        each.voi_split_bits + each.voi_merge_bits for each in (pair.restored, pair.interpolated)
    )
    ratio = restored / interpolated if interpolated else math.inf if restored else 1.0
    reason = (
        f"Segmented alike, the result differs from {what} by {restored:.3g} bits (VOI), "
        f"linear interpolation by {interpolated:.3g}."
    )
    value = ratio if math.isfinite(ratio) else None
    warn, fail = VOI
    return Check(
        name="segmentation",
        verdict=judged(ratio, warn, fail),
        measure="VOI over interpolation's",
        value=value,
        warn=warn,
        fail=fail,
        reason=reason,
    )
