"""A small finished run without a network: smooth noise, of which every few sections were measured."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.ndimage

from emgen.config.run import parse
from emgen.geometry import Box, VoxelSize
from emgen.physics.noise_model import NoiseModel
from emgen.qc.sample import Sample
from emgen.run.heldout import Held
from emgen.run.plan import Plan
from emgen.volumes.intensity import Intensity, store
from emgen.volumes.volume import Volume

SHAPE, FACTOR = (24, 32, 40), 4
VOXEL = VoxelSize(8, 8, 8)


def tissue(seed: int = 0) -> np.ndarray:
    """Smooth noise of 8 bits, finer than the distance of measured sections."""
    noise = np.random.default_rng(seed).normal(size=SHAPE)
    smooth = scipy.ndimage.gaussian_filter(noise, 1.2, mode="wrap")
    return store(128 + 35 * smooth / smooth.std(), "uint8")


def volume(path: Path, voxels: np.ndarray, voxel: VoxelSize = VOXEL, **more) -> str:
    target = Volume.create(
        path, voxels.shape, voxels.dtype, voxel, chunk=voxels.shape, shard=voxels.shape, **more
    )
    target.write(Box.whole(voxels.shape), voxels)
    return str(path)


def run(
    folder: Path,
    restored: Callable[[np.ndarray], np.ndarray] = lambda truth: truth,
    *,
    factor: int = FACTOR,
    reference: bool = True,
    samples: int = 1,
    noise: float = 0.0,
    spread: float | np.ndarray = 2.0,
) -> tuple[Plan, Sample]:
    """The plan and the sample of a run whose output is made from the truth by `restored`."""
    truth = tissue()
    mode = "isotropic" if factor > 1 else "denoise"
    qc = {"reference": volume(folder / "reference.ome.zarr", truth)} if reference else {}
    measured = volume(folder / "measured.ome.zarr", truth[::factor], VOXEL.scaled((factor, 1, 1)))
    config = parse(
        {
            "run": "small",
            "input": {"volume": measured},
            "restore": {"mode": mode, "samples": samples},
            "grid": {"block": [8, 16, 16], "halo": [2, 4, 4]},
            "output": {"chunk": [8, 16, 16], "shard": [8, 16, 16]},
            "qc": qc,
        }
    )
    plan = Plan(
        config=config,
        measured_shape=(SHAPE[0] // factor, *SHAPE[1:]),
        measured_voxel=VOXEL.scaled((factor, 1, 1)),
        dtype="uint8",
        intensity=Intensity.of([truth]),
        noise_model=NoiseModel(noise),
        missing=(),
        no_data=(),
        rim=0,
        absent=False,
        corrections=None,
        blank=0.0,
        inferred=0.0,
        psf=None,
        prior={"name": "none", "sha256": "0" * 64},
        estimator=None,
        settings={},
        fingerprint="synthetic",
        key="k" * 64,
    )
    volume(folder / "restored.ome.zarr", store(restored(truth), "uint8"))
    if samples > 1:
        deviation = np.full(SHAPE, spread, np.float32) if np.isscalar(spread) else spread
        volume(folder / "uncertainty.ome.zarr", deviation)
    return plan, Sample.of(plan, folder, config.qc)


def texture(seed: int, smooth: float = 1.0) -> np.ndarray:
    """A section of smooth noise."""
    noise = np.random.default_rng(seed).normal(size=(48, 48)).astype(np.float32)
    return 128 + 100 * scipy.ndimage.gaussian_filter(noise, smooth)


def held_out(
    restored: Callable[[np.ndarray, np.ndarray], np.ndarray], count: int = 8, seed: int = 0
) -> list[Held]:
    """Sections between two that are half the same, restored by `restored(truth, linear)`: one at every place."""
    parts = []
    for place in range(count):
        truth, before, after = (texture(seed + 10 * place + k, 2) for k in range(3))
        sides = [(truth + other) / 2 for other in (before, after)]
        linear = (sides[0] + sides[1]) / 2
        parts.append(Held(place, 1, truth, restored(truth, linear), *sides))
    return parts
