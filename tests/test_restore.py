import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runs import CORNER, ROOT, measured, restore, settings

from emgen.config.run import parse
from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.run.failures import Failures
from emgen.run.job import restore_job
from emgen.run.plan import make
from emgen.run.resolve import concurrent_blocks, resolve
from emgen.run.restore import Restorer
from emgen.run.results import Results
from emgen.volumes.blocks import BlockStores
from emgen.volumes.ledger import Entry
from emgen.volumes.volume import Volume


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("input"))


@pytest.fixture(scope="module")
def result(volume, tmp_path_factory):
    return restore(tmp_path_factory.mktemp("run"), settings(volume))


def test_measured_sections_come_back_unchanged(volume, result):
    plan, voxels = result
    assert voxels.shape == (36, 40, 40)
    assert (voxels[::6] == Volume.open(volume).read(Box.whole(plan.measured_shape))).all()


def test_sections_between_are_nearer_to_the_tissue_than_interpolation(volume, result):
    """Of the reference volume, whose every sixth section was measured."""
    plan, voxels = result
    truth = Volume.open(ROOT / "demo/reference.ome.zarr").read(Box((0, 30, 40), (31, 70, 80)))
    linear = plan.interpolated(Volume.open(volume), Box.whole(plan.shape))
    inner = np.delete(np.arange(31), np.arange(0, 31, 6))

    def error(found):
        return np.square(found[inner].astype(float) - truth[inner]).mean()

    assert error(voxels) < 0.95 * error(linear)


@pytest.mark.parametrize(("per_job", "workers"), [(1, 1), (3, 2), (100, 3)])
def test_any_division_gives_the_same_voxels(volume, result, tmp_path, per_job, workers):
    _, voxels = restore(tmp_path, settings(volume, grid={"blocks_per_job": per_job}), workers)
    assert (voxels == result[1]).all()


def counted(monkeypatch) -> list[Box]:
    """The outer boxes that are restored from now on."""
    block, boxes = Restorer.block, []

    def noted(self, outer, *more):
        boxes.append(outer)
        return block(self, outer, *more)

    monkeypatch.setattr(Restorer, "block", noted)
    return boxes


def job(plan, folder, number=0):
    return restore_job(plan, number, folder, "cpu", 1, lambda text: None)


def voxels_of(plan, folder, index):
    stores = Results(plan, folder).blocks
    return stores.read("mean", index, Box.whole(plan.grid[index].outer.shape))


def test_a_restart_does_only_what_is_missing_and_its_voxels_are_those_of_an_unbroken_job(
    result, tmp_path, monkeypatch
):
    plan = result[0]
    job(plan, tmp_path / "unbroken")
    job(plan, tmp_path / "broken")
    for index in (0, 2, 3):
        Results(plan, tmp_path / "broken").blocks.files(index)["mean"].unlink()
    boxes = counted(monkeypatch)
    facts = job(plan, tmp_path / "broken")
    assert (facts["blocks"], facts["found"]) == (4, 1)
    assert set(boxes) == {plan.grid[index].outer for index in (0, 2, 3)} and len(boxes) == 3
    for index in plan.grid.job(0):
        np.testing.assert_array_equal(
            *(voxels_of(plan, tmp_path / name, index) for name in ("broken", "unbroken"))
        )


def test_another_division_into_jobs_keeps_what_is_done(result, volume, tmp_path, monkeypatch):
    plans = [
        make(resolve(parse(settings(volume, grid={"blocks_per_job": per_job}))))
        for per_job in (4, 9, 5)
    ]
    assert len({plan.key for plan in plans}) == 1
    job(plans[0], tmp_path, 1)
    boxes = counted(monkeypatch)
    assert job(plans[1], tmp_path, 0)["found"] == 4
    assert set(boxes) == {plans[1].grid[index].outer for index in (0, 1, 2, 3, 8)}
    boxes.clear()
    assert job(plans[2], tmp_path, 1)["found"] == 4
    assert boxes == [plans[2].grid[9].outer]


def failing(monkeypatch, plan, indices, words="the input is damaged there"):
    """Blocks that cannot be restored from now on."""
    fetch, outers = Restorer.fetch, [plan.grid[index].outer for index in indices]

    def fetched(self, outer, measured):
        if outer in outers:
            raise EmgenError(words)
        return fetch(self, outer, measured)

    monkeypatch.setattr(Restorer, "fetch", fetched)


def test_a_block_that_fails_is_noted_and_the_others_go_on(result, tmp_path, monkeypatch):
    plan = result[0]
    with monkeypatch.context() as patch:
        failing(patch, plan, [1])
        with pytest.raises(
            EmgenError, match=r"^1 of 4 blocks could not .* the others are"
        ) as error:
            job(plan, tmp_path)
    core = plan.grid[1].core
    assert f"block 1 (voxels {core.start} to {core.stop})" in str(error.value)
    assert "the input is damaged there. Start again" in str(error.value)
    entries = Results(plan, tmp_path).ledgers.blocks.read()
    assert [entry.state for entry in entries.values()] == ["done", "failed", "done", "done"]
    assert entries[1].reason == "the input is damaged there"
    boxes = counted(monkeypatch)
    assert job(plan, tmp_path)["found"] == 3
    assert boxes == [plan.grid[1].outer]


@pytest.mark.parametrize("error", [RuntimeError("odd"), MemoryError(), ZeroDivisionError("x\ny")])
def test_an_error_that_nobody_foresaw_is_of_its_block_too(result, tmp_path, monkeypatch, error):
    plan, lines = result[0], []

    def broken(self, outer, measured):
        raise error

    monkeypatch.setattr(Restorer, "block", broken)
    with pytest.raises(EmgenError, match=f"The first: {type(error).__name__}: "):
        restore_job(plan, 4, tmp_path, "cpu", 1, lines.append)
    assert any("Traceback" in line for line in lines)


def test_a_job_stops_where_too_many_blocks_fail(result, tmp_path, monkeypatch):
    plan = dataclasses.replace(result[0])
    failing(monkeypatch, plan, range(18))
    with pytest.raises(EmgenError, match=r"^3 of 4 blocks could not be restored, the job stopped"):
        job(plan, tmp_path)


@given(st.integers(1, 200), st.data())
def test_a_job_stops_at_a_share_of_failures_and_never_below_three(result, blocks, data):
    failures = Failures(result[0], range(blocks))
    for number in range(blocks):
        failed = data.draw(st.booleans())
        failures.add(Entry(0, "failed" if failed else "done"))
        bad = len(failures.failed)
        stops = bad >= 3 and (bad == number + 1 or bad / blocks > 0.1)
        assert failures.too_many == stops
        if stops:
            return


def test_another_seed_gives_another_sample(volume, result, tmp_path):
    _, voxels = restore(tmp_path, settings(volume, restore={"steps": 3, "seed": 1}))
    assert (voxels != result[1]).mean() > 0.3


def test_several_samples_give_their_mean_and_spread(volume, tmp_path):
    plan = make(resolve(parse(settings(volume, restore={"steps": 2, "samples": 3}))))
    outer = plan.grid[0].outer
    voxels = Volume.open(volume).read(plan.interpolation_support(outer))
    restorer = Restorer(plan)
    fields = restorer(outer, voxels)
    assert fields["std"].dtype == np.float32 and list(fields) == ["std", "mean"]
    # measured sections do not vary; sections between them do
    assert fields["std"][::6].max() < 1e-3 < fields["std"][3].mean()


NEAR = 15.0
"""Grey values that the result of a network, measured once more, may lie off: root mean square."""
MODES = [
    {"mode": "isotropic", "section": "mean", "steps": 3},
    {"mode": "isotropic", "section": "gaussian", "steps": 3},
    {"mode": "isotropic", "sampler": "em-generalist", "steps": 30},
    {"mode": "denoise", "steps": None},
    {"mode": "denoise", "sampler": "em-generalist", "steps": 30},
    {"mode": "superres", "factor": 2, "steps": 3},
    {"mode": "deblur", "psf": {"sigma": 1.0}, "steps": 3},
]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(map(str, mode.values())))
def test_every_mode_gives_what_agrees_with_what_was_measured(volume, tmp_path, mode):
    """Measured once more, the result is as near to the input as the mode's physics and its sampler make it.

    What ends with a data step agrees to the noise that this step took (grey values, root mean square).
    """
    grid = {"block": [16, 48, 48], "halo": [4, 8, 8]} if mode["mode"] != "isotropic" else {}
    output = {"shard": [16, 48, 48], "chunk": [16, 48, 48]} if grid else {}
    plan, voxels = restore(tmp_path, settings(volume, restore=mode, grid=grid, output=output))
    y = Volume.open(volume).read(Box.whole(plan.measured_shape)).astype(float)
    A = plan.mode.operator(Box.whole(plan.shape))
    apart = np.sqrt(np.square(A(torch.from_numpy(voxels).double()).numpy() - y).mean())
    if "sampler" in mode or mode["mode"] == "denoise":  # these end with a network
        assert apart < NEAR
    else:
        sigma = max(plan.noise_model.sigma, plan.mode.noise_floor * plan.intensity.unit)
        assert apart < 2 + 1.5 * sigma


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_every_type_keeps_its_type_and_measured_values(tmp_path, dtype):
    volume = measured(
        tmp_path,
        Box((0, 0, 0), (2, 17, 19)),
        dtype=dtype,
        change=lambda v: v.astype(np.float64) * 1.5 - 40,
    )
    _, voxels = restore(tmp_path / "run", settings(volume, restore={"steps": 1}))
    stored = Volume.open(volume).read(Box.whole((2, 17, 19)))
    assert voxels.dtype == dtype
    np.testing.assert_allclose(
        voxels[::6].astype(float), stored, atol=1e-3 if dtype == "float32" else 0
    )


@pytest.mark.parametrize("shape", [(1, 40, 40), (1, 5, 7), (3, 1, 9), (2, 33, 3)])
def test_odd_small_and_single_section_volumes(tmp_path, shape):
    volume = measured(
        tmp_path,
        Box(CORNER.start, [a + n for a, n in zip(CORNER.start, shape, strict=True)])
        if shape[0] < 6
        else CORNER,
    )
    _, voxels = restore(tmp_path / "run", settings(volume, restore={"steps": 1}))
    assert voxels.shape == (6 * shape[0], *shape[1:])
    stored = Volume.open(volume)
    np.testing.assert_array_equal(voxels[::6], stored.read(Box.whole(stored.shape)))


def test_empty_blocks_never_reach_the_network(tmp_path, monkeypatch):
    def half(voxels):
        voxels = voxels.copy()
        voxels[:, :, 10:] = 0
        return voxels

    volume = measured(tmp_path, Box((0, 0, 0), (2, 16, 160)), change=half)
    plan = make(resolve(parse(settings(volume, restore={"steps": 1}))))
    facts = [job(plan, tmp_path, number) for number in range(plan.grid.jobs)]
    assert sum(f["empty"] for f in facts) > sum(f["blocks"] for f in facts) / 2


def test_nan_outside_the_sampled_boxes_is_a_hole(volume, result):
    plan = result[0]
    outer = plan.grid[0].outer
    voxels = Volume.open(volume).read(plan.interpolation_support(outer)).astype(np.float32)
    voxels[1, 2, 3] = np.nan
    assert np.isfinite(Restorer(plan)(outer, voxels)["mean"]).all()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("place", "value"), [(0, float("nan")), (1, float("inf"))])
def test_a_result_that_is_no_number_is_an_error_and_never_a_zero(
    result, volume, monkeypatch, dtype, place, value
):
    plan = dataclasses.replace(result[0], dtype=dtype)
    outer = plan.grid[0].outer

    def broken(self, observation, estimate):
        fields = torch.zeros(2, *observation.box.shape)
        fields[place, 1, 2, 3] = value
        return fields[0], fields[1]

    monkeypatch.setattr(Restorer, "_posterior", broken)
    with pytest.raises(EmgenError, match=r"^1 of \d+ restored voxels from .* NaN or infinite"):
        Restorer(plan)(outer, Volume.open(volume).read(plan.interpolation_support(outer)))


def test_a_prior_that_changed_since_the_plan_is_refused(result):
    plan = dataclasses.replace(result[0], prior={**result[0].prior, "sha256": "0" * 64})
    with pytest.raises(EmgenError, match="has changed since the run was planned"):
        _ = Restorer(plan).networks.prior


def test_what_a_block_reads_holds_what_was_measured_of_it(volume):
    for section in ("slice", "mean", "gaussian"):
        plan = make(resolve(parse(settings(volume, restore={"section": section}))))
        for index in range(len(plan.grid)):
            box = plan.grid[index].outer
            assert plan.interpolation_support(box).contains(plan.mode.operator(box).footprint)


def test_another_block_size_stays_within_one_grey_value(volume, result, tmp_path):
    """Noise and network know positions, not blocks; only what lies beyond an outer box is missed."""
    grid = {"block": [36, 40, 40], "halo": [0, 0, 0]}
    one = {"chunk": [36, 40, 40], "shard": [36, 40, 40]}
    _, whole = restore(tmp_path / "whole", settings(volume, grid=grid, output=one))
    halved = {"block": [20, 24, 24], "halo": [15, 16, 16]}
    unit = {"chunk": [20, 24, 24], "shard": [20, 24, 24]}
    _, blocks = restore(tmp_path / "blocks", settings(volume, grid=halved, output=unit))
    assert (np.abs(whole.astype(int) - blocks.astype(int)) <= 1).mean() > 0.999


def test_version_0_4_in_and_out_gives_the_same_voxels(volume, result, tmp_path):
    stored = Volume.open(volume)
    voxels = stored.read(Box.whole(stored.shape))
    old = Volume.create(
        tmp_path / "old.ome.zarr",
        stored.shape,
        stored.dtype,
        stored.voxel,
        ngff="0.4",
        chunk=(3, 7, 50),
    )
    old.write(Box.whole(old.shape), voxels)
    _, again = restore(tmp_path / "run", settings(old.path, output={"ngff": "0.4"}))
    assert (again == result[1]).all()


def test_a_block_that_cannot_be_written_ends_the_job_and_the_others_stay(
    result, tmp_path, monkeypatch
):
    plan, write = result[0], BlockStores.write

    def full(stores, index, fields):
        if index == 1:
            raise OSError(28, "No space left on device")
        return write(stores, index, fields)

    with monkeypatch.context() as patch:
        patch.setattr(BlockStores, "write", full)
        with pytest.raises(OSError, match="No space left"):
            job(plan, tmp_path)
    facts = job(plan, tmp_path)
    assert 1 <= facts["found"] < facts["blocks"] == 4


def test_thin_blocks_are_restored_abreast_and_no_voxel_differs(tmp_path):
    volume = measured(tmp_path, Box((3, 0, 0), (4, 80, 96)))
    flat = {
        "grid": {"block": [1, 16, 32], "halo": [0, 8, 8], "blocks_per_job": 30},
        "output": {"chunk": [1, 16, 16], "shard": [1, 16, 16]},
    }
    config = settings(volume, restore={"mode": "denoise", "steps": None}, **flat)
    plan, alone = restore(tmp_path / "a", config)
    assert [concurrent_blocks(plan.mode, plan.grid, workers) for workers in (1, 4)] == [1, 4]
    _, together = restore(tmp_path / "b", config, workers=4)
    np.testing.assert_array_equal(alone, together)
