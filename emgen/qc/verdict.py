"""From figures to pass, warn or fail, with a reason in plain words.

Thresholds stand here and nowhere else, and every check carries its own into `summary.json`. A check
fails where the result should not be used as it is, and warns where somebody should look.
"""

from __future__ import annotations

import math

from emgen import __version__
from emgen.qc.sample import baseline
from emgen.qc.seams import FAIL, WARN
from emgen.qc.summary import (
    Axis,
    Check,
    Consistency,
    Fsc,
    Image,
    ImageOf,
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
from emgen.run.plan import Plan

# Per cent of the input's grey range: what the degraded result may differ from noiseless input.
MISFIT = (1.0, 3.0)
# Over the noise: what it may differ from noisy input; and below the last number noise was kept.
MISFIT_NOISE, OVERFIT_NOISE = (1.5, 3.0), 0.3
# Restored less interpolated: dB, mean SSIM of xz and yz.
PSNR_GAIN, SSIM_GAIN = (0.0, -1.0), (0.0, -0.02)
# Restored over interpolated: period in nm at FSC 0.5, VOI, adapted Rand error.
RESOLUTION, VOI, RAND = (1.05, 1.2), (1.0, 1.1), (1.05, 1.15)
# Power at high frequencies over the reference's: warn below, warn above, fail above. Too little
# never fails: a reference has noise that no restoration can know.
POWER = (0.5, 1.5, 4.0)
# Voxels by which the result and its reference may be apart.
SHIFT = 0.5
DIRECTIONS = {"axial": "Along z", "lateral": "In the plane", "spherical": "In all directions"}


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
    beside, isotropic = baseline(plan), plan.scale[0] > 1
    checks = [check_seams(seams), check_consistency(consistency)]
    if image is not None:
        checks += check_image(image, beside, isotropic)
    if fsc is not None:
        checks += check_fsc(fsc, beside, isotropic)
    if segmentation is not None:
        checks += check_segmentation(segmentation, beside)
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
    same = "is the input, voxel for voxel"
    found = f"differs from the input by {rmse:.2g} grey values" if rmse else same
    end = "." if verdict == "pass" else ": what was measured was not kept."
    return Check(
        name="consistency",
        verdict=verdict,
        measure="RMSE over the grey range",
        value=value,
        warn=warn,
        fail=fail,
        unit="%",
        reason=f"Degraded again, the result {found}{end}",
    )


def _against_noise(value: float, noise: float) -> Check:
    warn, fail = MISFIT_NOISE
    verdict, end = judged(value, warn, fail), "."
    if verdict != "pass":
        end = ", more than noise explains: structure was changed."
    elif value < OVERFIT_NOISE:
        verdict, end = "warn", ": most of the noise was kept."
    return Check(
        name="consistency",
        verdict=verdict,
        measure="RMSE over the noise",
        value=value,
        warn=warn,
        fail=fail,
        reason=f"Degraded again, the result differs from the input by {value:.2g} times the "
        f"input's noise ({noise:.3g} grey values){end}",
    )


def check_image(image: Image, beside: str, isotropic: bool) -> list[Check]:
    """Whether the grey values are nearer to the reference than those of the volume `beside`."""
    restored, interpolated = image.figures.restored, image.figures.interpolated
    checks = []
    if restored.psnr_db is not None and interpolated.psnr_db is not None:
        gain = restored.psnr_db - interpolated.psnr_db
        side = "nearer to" if gain >= 0 else "farther from"
        reason = f"Grey values are {abs(gain):.2g} dB {side} the reference than those of {beside}."
        checks.append(_gain("psnr", gain, PSNR_GAIN, "dB", reason))
    planes: tuple[Plane, ...] = ("xz", "yz") if isotropic else ("xy",)
    a, b = _mean_ssim(restored, planes), _mean_ssim(interpolated, planes)
    if a is not None and b is not None:
        reason = (
            f"In {' and '.join(planes)}, structure is {'more' if a >= b else 'less'} like "
            f"the reference's (SSIM {a:.3f}) than that of {beside} ({b:.3f})."
        )
        checks.append(_gain("ssim", a - b, SSIM_GAIN, "", reason))
    return checks


def _gain(name: str, gain: float, thresholds: tuple[float, float], unit: str, reason: str) -> Check:
    warn, fail = thresholds
    return Check(
        name=name,
        verdict=judged(gain, warn, fail, higher=True),
        measure="gain",
        value=gain,
        warn=warn,
        fail=fail,
        higher=True,
        unit=unit,
        reason=reason,
    )


def _mean_ssim(volume: ImageOf, planes: tuple[Plane, ...]) -> float | None:
    values = [value for plane in planes if (value := volume.ssim[plane]) is not None]
    return sum(values) / len(values) if values else None


def check_fsc(fsc: Fsc, beside: str, isotropic: bool) -> list[Check]:
    """Whether detail agrees with the reference, how much there is, and whether they lie alike."""
    restored, interpolated = fsc.figures.restored, fsc.figures.interpolated
    sectors: tuple[Sector, ...] = ("axial", "lateral") if isotropic else ("lateral",)
    resolved = []
    for sector in sectors:
        a, b = (each.curves[sector].at_half for each in (restored, interpolated))
        resolved.append(_resolution(sector, a, b, beside))
    power = restored.fine_power[sectors[0]]
    detail = [] if power is None else [_power(sectors[0], power)]
    return [*resolved, *detail, _shift(max(map(abs, restored.shift.voxels)))]


def _resolution(sector: Sector, restored: Resolved, interpolated: Resolved, beside: str) -> Check:
    name, measure, direction = f"resolution {sector}", "period over the other's", DIRECTIONS[sector]
    if restored.nm is None:
        verdict: Verdict = "warn" if interpolated.nm is None else "fail"
        reason = (
            f"{direction}, the result agrees with the reference at no scale: {restored.reason}."
        )
        return Check(name=name, verdict=verdict, measure=measure, value=None, reason=reason)
    ratio = 0.0 if interpolated.nm is None else restored.nm / interpolated.nm
    reach = "at no scale" if interpolated.nm is None else f"down to {interpolated.nm:.3g} nm"
    warn, fail = RESOLUTION
    return Check(
        name=name,
        verdict=judged(ratio, warn, fail),
        measure=measure,
        value=ratio,
        warn=warn,
        fail=fail,
        reason=f"{direction}, the result agrees with the reference down to {restored.nm:.3g} nm "
        f"(FSC 0.5), {beside} {reach}.",
    )


def _power(sector: Sector, power: float) -> Check:
    lowest, warn, fail = POWER
    smooth = power < lowest
    says = "as much as there should be"
    if smooth:
        says = "the result is much smoother; noise may be gone, or detail"
    elif power > warn:
        says = "there is more than there should be"
    return Check(
        name="fine detail",
        verdict="warn" if smooth else judged(power, warn, fail),
        measure="power over the reference's",
        value=power,
        warn=lowest if power < 1 else warn,
        fail=None if power < 1 else fail,
        higher=power < 1,
        reason=f"{DIRECTIONS[sector]}, the finest structure and noise have {power:.2g} times the "
        f"power of the reference's: {says}.",
    )


def _shift(shift: float) -> Check:
    apart = "they lie alike" if shift <= SHIFT else "every comparison with it is worth less"
    return Check(
        name="shift",
        verdict=judged(shift, SHIFT, math.inf),
        measure="distance",
        value=shift,
        warn=SHIFT,
        unit="voxels",
        reason=f"Result and reference are {shift:.2g} voxels apart: {apart}.",
    )


def check_segmentation(segmentation: Segmentation, beside: str) -> list[Check]:
    """Whether objects come out more like they should than in the volume `beside`.

    Against labels by the adapted Rand error: in terms of VOI, a single segment may look better than
    the many fragments of a segmenter that splits too much.
    """
    pair = segmentation.against_reference
    vois = [
        each.voi_split_bits + each.voi_merge_bits for each in (pair.restored, pair.interpolated)
    ]
    checks = [_objects("segmentation", "VOI", "the reference", "bits (VOI)", vois, VOI, beside)]
    if segmentation.against_labels is not None:
        labels = segmentation.against_labels
        rands = [each.adapted_rand_error or 0.0 for each in (labels.restored, labels.interpolated)]
        what = "the labels", "(adapted Rand error)"
        checks.append(_objects("objects", "adapted Rand error", *what, rands, RAND, beside))
    return checks


def _objects(
    name: str,
    measure: str,
    against: str,
    unit: str,
    errors: list[float],
    thresholds: tuple[float, float],
    beside: str,
) -> Check:
    restored, interpolated = errors
    ratio = restored / interpolated if interpolated else math.inf if restored else 1.0
    warn, fail = thresholds
    return Check(
        name=name,
        verdict=judged(ratio, warn, fail),
        measure=f"{measure} over the other's",
        value=ratio if math.isfinite(ratio) else None,
        warn=warn,
        fail=fail,
        reason=f"Segmented alike, the result differs from {against} by {restored:.3g} {unit}, "
        f"{beside} by {interpolated:.3g}.",
    )
