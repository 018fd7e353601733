"""Tissue beside blank parts comes out as if these were not there, and blank parts stay blank."""

import numpy as np
import pytest
from runs import measured, restore, settings
from scipy.ndimage import distance_transform_edt

from emgen.arrays import deblur, denoise, isotropic, superres
from emgen.config.input import Input
from emgen.config.run import parse
from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.run.mend import begin
from emgen.run.plan import Plan, make
from emgen.run.resolve import resolve
from emgen.run.tissue_map import write_tissue
from emgen.volumes.inputs import open_input
from emgen.volumes.volume import Volume

ONE = {"block": (24, 96, 96), "halo": (0, 0, 0), "workers": 1}


def psnr(found, truth, where):
    return 10 * np.log10(255**2 / np.square(found.astype(float) - truth)[where].mean())


def beyond(blank, pixels=4):
    """Voxels at least so many pixels from blank ones."""
    return distance_transform_edt(~blank) >= pixels


@pytest.mark.parametrize(
    "mode", [pytest.param("isotropic", marks=pytest.mark.slow), "denoise", "superres", "deblur"]
)
def test_tissue_four_pixels_from_blank_parts_is_restored_as_without_them(fib25, mode):
    truth = fib25 if mode == "isotropic" else fib25[::6]
    run, y = {
        "isotropic": (lambda v: isotropic(v, 4, **ONE), truth[::4]),
        "denoise": (lambda v: denoise(v, noise=8.0, workers=1), truth),
        "superres": (
            lambda v: superres(v, 2, workers=1),
            truth.reshape(4, 48, 2, 48, 2).mean((2, 4)).astype(np.uint8)
            if mode == "superres"
            else truth,
        ),
        "deblur": (lambda v: deblur(v, 1.0, workers=1), truth),
    }[mode]
    damaged, blank = y.copy(), np.zeros(y.shape, bool)
    side = y.shape[1] // 3
    blank[:, :side, :side] = True
    damaged[blank] = 0
    whole, found = run(y), run(damaged)
    assert found.plan.no_data == (0.0,) and whole.plan.no_data == ()
    coarse = [a // b for a, b in zip(truth.shape, y.shape, strict=True)]
    for axis, n in enumerate(coarse):
        blank = blank.repeat(n, axis)
    assert (found.mean[blank] == 0).all()
    where = beyond(blank)
    if mode == "isotropic":
        where[::4] = where[21:] = False
    assert psnr(found.mean, truth, where) > psnr(whole.mean, truth, where) - 0.1


def test_blank_sections_at_the_ends_are_not_seen_and_stay_blank(fib25):
    y = fib25[::4].copy()
    y[:2] = 0
    alone, found = isotropic(y[2:], 4, steps=2, **ONE), isotropic(y, 4, steps=2, **ONE)
    assert found.plan.missing == (0, 1)
    assert (found.mean[:6] == 0).all() and found.mean[6:].min() > 0
    apart = np.abs(found.mean[8:].astype(int) - alone.mean)
    assert np.percentile(apart, 95) < 12  # the noise of sampling is that of another place


def test_a_hole_is_restored_and_a_large_one_is_not(fib25):
    y = fib25[::4].astype(np.float32)
    y[:, 40:52, 40:52] = np.nan
    y[:, 60:, 60:] = np.nan
    found = isotropic(y, 4, steps=2, **ONE).mean
    assert np.isfinite(found[:, 40:52, 40:52]).all() and np.isnan(found[:, 60:, 60:]).all()
    assert np.isfinite(found[:, :60]).all()
    kept = isotropic(y, 4, steps=2, holes=0, **ONE).mean
    assert np.isnan(kept[:, 40:52, 40:52]).all()


def test_what_a_mask_leaves_out_has_no_influence(fib25):
    y = fib25[::6]
    mask = np.ones(y.shape, np.uint8)
    mask[:, 50:] = 0
    other = y.copy()
    other[:, 50:] = np.random.default_rng(0).integers(0, 256, other[:, 50:].shape)
    found, same = (denoise(v, noise=8.0, mask=mask, workers=1).mean for v in (y, other))
    np.testing.assert_array_equal(found[:, :50], same[:, :50])
    np.testing.assert_array_equal(same[:, 50:], other[:, 50:])
    with pytest.raises(EmgenError, match="mask: expected whole numbers"):
        denoise(y, mask=mask[:, 1:])


def with_nan(voxels):
    voxels = voxels.astype(np.float32)
    voxels[:, :9] = np.nan
    voxels[:, :, 33:] = np.nan
    voxels[2, 20:26, 10:16] = np.nan
    return voxels


@pytest.mark.slow
def test_a_run_marks_blank_and_inferred_voxels(tmp_path):
    volume = measured(tmp_path, dtype=np.float32, change=with_nan)
    config = settings(volume)
    plan, found = restore(tmp_path / "run", config)
    begin(plan, resolve(parse(config)), tmp_path / "run")
    counts = [write_tissue(plan, job, tmp_path / "run") for job in range(plan.grid.jobs)]
    marks = Volume.open(tmp_path / "run/tissue.ome.zarr")
    states = marks.read(Box.whole(marks.shape))
    np.testing.assert_array_equal(states == 0, np.isnan(found))
    assert (states == 0).sum() == sum(each["blank"] for each in counts) > 0
    assert (states == 2).sum() == sum(each["inferred"] for each in counts) > 0
    assert np.isnan(found[:, :9]).all() and np.isfinite(found[:, 9:, :33]).all()
    assert any("tissue.ome.zarr" in sentence for sentence in plan.story)


def test_a_mask_that_does_not_fit_is_refused_before_any_work(tmp_path):
    volume = measured(tmp_path)
    wrong = measured(tmp_path, Box((0, 0, 0), (6, 40, 41)), "wrong")
    floats = measured(tmp_path, name="floats", dtype=np.float32)
    for mask, words in ((wrong, "one voxel of the mask for each"), (floats, "expected integers")):
        with pytest.raises(EmgenError, match=f"input.mask.*{words}"):
            open_input(Input(volume=str(volume), mask=str(mask)))


def test_the_mask_is_part_of_what_a_run_was_planned_from(tmp_path):
    volume = measured(tmp_path)

    def planned(name, change) -> Plan:
        mask = measured(tmp_path, name=name, dtype=np.uint8, change=change)
        return make(resolve(parse(settings(volume, input={"mask": str(mask)}))))

    def left(voxels):
        return np.broadcast_to(np.arange(voxels.shape[2]) < 20, voxels.shape)

    one, other = planned("a", lambda v: np.ones_like(v)), planned("b", left)
    assert one.fingerprint != other.fingerprint and one.key != other.key
    assert other.blank > 0.4 and one.blank == 0
