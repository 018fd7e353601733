"""Sizes that no run has are refused with what to set, before anything is read; those of real runs are not."""

import itertools

import numpy as np
import pytest
from runs import measured

from emgen.config.input import Input
from emgen.config.run import parse
from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.run.limits import refuse_absurd
from emgen.volumes.grid import Grid
from emgen.volumes.inputs import refuse_broken_reference
from emgen.volumes.volume import Volume

LARGE = (200_000, 100_000, 100_000)  # two petavoxels


def refuse(shape, **parts):
    config = parse({"run": "a", "input": {"volume": "v"}, **parts})
    grid = config.grid
    refuse_absurd(config, Grid(shape, grid.block, grid.halo, grid.blocks_per_job), np.dtype("f4"))


@pytest.mark.parametrize(
    ("shape", "parts", "words"),
    [
        (LARGE, {}, r"at most 50000 jobs. Set grid.blocks_per_job to at least \d+"),
        (
            (64, 64, 64),
            {
                "grid": {"block": [1, 1, 1], "halo": [0, 0, 0], "blocks_per_job": 1},
                "output": {"chunk": [1, 1, 1], "shard": [1, 1, 1]},
            },
            "262144 jobs of 1",
        ),
        (LARGE, {"grid": {"block": [4096] * 3}}, "more than 100 GB of memory"),
        (
            (64, 64, 64),
            {"output": {"chunk": [1024] * 3, "shard": [1024] * 3}, "grid": {"block": [1024] * 3}},
            "a viewer reads",
        ),
        (
            LARGE,
            {"output": {"chunk": [1, 1, 1]}, "grid": {"blocks_per_job": 10**6}},
            "2097152 chunks",
        ),
        (
            LARGE,
            {"output": {"chunk": [8] * 3, "shard": [64] * 3}, "grid": {"blocks_per_job": 10**6}},
            "files of",
        ),
        (
            LARGE,
            {"grid": {"blocks_per_job": 10**6}, "qc": {"tile": [10**6] * 3}},
            "Set a smaller tile",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_set(shape, parts, words):
    with pytest.raises(EmgenError, match=words):
        refuse(shape, **parts)


def test_what_is_said_to_be_enough_is_enough():
    with pytest.raises(EmgenError) as error:
        refuse(LARGE)
    least = int(str(error.value).split("at least ")[1].split(",")[0])
    refuse(LARGE, grid={"blocks_per_job": least})
    with pytest.raises(EmgenError):
        refuse(LARGE, grid={"blocks_per_job": least - 1})


def test_usual_runs_are_not_refused():
    refuse((1024, 8192, 8192))
    refuse((64, 64, 64), qc={"tile": [10**6] * 3})


def test_a_reference_with_missing_chunks_is_refused_like_an_input(tmp_path):
    truth = measured(tmp_path, name="truth")
    whole = Volume.open(truth)
    reference = Volume.create(
        tmp_path / "reference.ome.zarr",
        whole.shape,
        whole.dtype,
        whole.voxel,
        chunk=(4, 16, 16),
        ngff="0.4",
    )
    for z, y, x in itertools.product((0, 4), (0, 16, 32), (0, 16, 32)):
        box = Box((z, y, x), (z + 4, y + 16, x + 16)).clip(whole.shape)
        reference.write(box, whole.read(box))
    strict = Input(volume=str(truth))
    refuse_broken_reference(reference.path, strict)
    refuse_broken_reference(None, strict)
    (tmp_path / "reference.ome.zarr/0/0/0/1").unlink()
    with pytest.raises(EmgenError, match=r"qc.reference: .*1 of its 18 chunks are missing"):
        refuse_broken_reference(reference.path, strict)
    refuse_broken_reference(reference.path, Input(volume=str(truth), missing_chunks="blank"))
