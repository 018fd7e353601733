"""Small sound inputs of every kind that emgen reads, for `tests/hostile.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

VOXEL = (40.0, 5.0, 5.0)


@dataclass(frozen=True)
class Base:
    """A kind of input: its door, what makes one in an empty folder, and whether nothing beside it is changed."""

    door: str
    make: Callable[[Path], Path]
    alone: bool = True


def tissue(shape: tuple[int, ...] = (6, 20, 24)) -> np.ndarray:
    """Smooth 8-bit voxels."""
    import scipy.ndimage

    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(1).normal(size=shape), 1.5)
    return np.clip(128 + 45 * noise / noise.std(), 1, 254).astype(np.uint8)


def settings_of(
    path: Path, volume: Path, reference: Path | None = None, mask: Path | None = None
) -> Path:
    """Settings of a run of a volume."""
    masked = {} if mask is None else {"mask": str(mask.absolute())}
    facts: dict[str, Any] = {
        "run": "small",
        "input": {"volume": str(volume.absolute()), **masked},
        "restore": {"factor": 2, "section": "slice", "noise": 0, "seed": 3, "steps": 4},
        "grid": {"block": [16, 32, 32], "halo": [4, 8, 8], "blocks_per_job": 4},
        "output": {"chunk": [16, 16, 16], "shard": [16, 32, 32], "ngff": "0.5"},
        "qc": {
            "tile": [16, 16, 16],
            "tiles": 4,
            **({"reference": str(reference)} if reference else {}),
        },
    }
    path.write_text(yaml.safe_dump(facts))
    return path.absolute()


def zarr(ngff: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from emgen.geometry import Box, VoxelSize
        from emgen.volumes.volume import Volume

        folder.mkdir(parents=True, exist_ok=True)
        voxels = tissue()
        volume = Volume.create(
            folder / "a.ome.zarr",
            voxels.shape,
            voxels.dtype,
            VoxelSize(*VOXEL),
            ngff=ngff,
            chunk=(3, 10, 12),
            shard=(6, 20, 24),
        )
        if ngff == "0.4":
            for box in (
                Box((z, y, x), (z + 3, y + 10, x + 12))
                for z in (0, 3)
                for y in (0, 10)
                for x in (0, 12)
            ):
                volume.write(box, voxels[box.slices])
        else:
            volume.write(Box.whole(voxels.shape), voxels)
        return folder / "a.ome.zarr"

    return make


def tiff(**options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import tifffile

        folder.mkdir(parents=True)
        name = "a.ome.tif" if options.get("ome") else "a.tif"
        tifffile.imwrite(folder / name, tissue(), photometric="minisblack", **options)
        return folder / name

    return make


def pictures(folder: Path) -> Path:
    from foreign import folder_of

    folder.mkdir(parents=True)
    return folder_of(folder / "sections", tissue())


def mrc(folder: Path) -> Path:
    import mrcfile

    folder.mkdir(parents=True)
    with mrcfile.new(folder / "a.mrc") as file:
        file.set_data(tissue().astype(np.int16))
        file.voxel_size = (50, 50, 400)
    return folder / "a.mrc"


def hdf5(folder: Path) -> Path:
    import h5py

    folder.mkdir(parents=True)
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("volume", data=tissue(), chunks=(3, 10, 12), compression="gzip")
    return folder / "a.h5"


def n5(folder: Path) -> Path:
    import foreign

    folder.mkdir(parents=True)
    return foreign.n5(folder / "a.n5", tissue())


def precomputed(**scale: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import tensorstore

        folder.mkdir(parents=True)
        data = tissue().transpose(2, 1, 0)[..., None]
        spec = {
            "driver": "neuroglancer_precomputed",
            "kvstore": {"driver": "file", "path": str(folder / "a.precomputed")},
            "multiscale_metadata": {"type": "image", "data_type": "uint8", "num_channels": 1},
            "scale_metadata": {
                "size": data.shape[:3],
                "resolution": [5, 5, 40],
                "encoding": "raw",
                "chunk_size": [12, 10, 3],
                **scale,
            },
        }
        tensorstore.open(spec, create=True).result().write(data).result()
        return folder / "a.precomputed"

    return make


SHARDED = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "preshift_bits": 1,
    "minishard_bits": 1,
    "shard_bits": 1,
    "hash": "identity",
    "minishard_index_encoding": "gzip",
    "data_encoding": "gzip",
}


def settings(folder: Path) -> Path:
    volume = zarr("0.5")(folder)
    return settings_of(folder / "my.yaml", volume)


def reference(folder: Path) -> Path:
    from emgen.geometry import Box, VoxelSize
    from emgen.volumes.volume import Volume

    zarr("0.4")(folder).rename(folder / "sound.ome.zarr")
    voxels = tissue((12, 20, 24))
    whole = voxels.shape
    volume = Volume.create(
        folder / "a.ome.zarr", whole, voxels.dtype, VoxelSize(20, 5, 5), chunk=whole, shard=whole
    )
    volume.write(Box.whole(whole), voxels)
    return folder / "a.ome.zarr"


def mask(folder: Path) -> Path:
    zarr("0.5")(folder).rename(folder / "sound.ome.zarr")
    return zarr("0.4")(folder)


NETWORK = {"design": "gated", "channels": [8, 16], "layers": 1}


def weights(folder: Path) -> Path:
    import torch

    from emgen.networks.build import build
    from emgen.networks.checkpoint import save

    folder.mkdir(parents=True)
    torch.manual_seed(0)
    facts = {
        "training": {"task": {"kind": "prior"}, "patches": {"size": 32}},
        "note": "",
        "credits": ["me"],
    }
    return save(build(NETWORK), folder / "a.safetensors", "a", NETWORK, facts).path


def checkpoint(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import torch
        from diffusers import UNet2DModel
        from safetensors.torch import save_file

        folder.mkdir(parents=True)
        torch.manual_seed(0)
        network = UNet2DModel(
            sample_size=16,
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            norm_eps=1e-6,
            downsample_padding=0,
            flip_sin_to_cos=False,
            freq_shift=1,
            block_out_channels=(32,),
            down_block_types=("DownBlock2D",),
            up_block_types=("UpBlock2D",),
        )
        state = network.state_dict()
        if suffix == ".pt":
            torch.save({"ema": state}, folder / "a.pt")
        else:
            save_file(state, folder / "a.safetensors")
        return folder / f"a{suffix}"

    return make


def recipe(folder: Path) -> Path:
    import tifffile

    folder.mkdir(parents=True)
    for name in "ab":
        tifffile.imwrite(folder / f"{name}.tif", tissue((6, 40, 40)))
    facts = {
        "name": "p",
        "data": ".",
        "sources": [
            {
                "path": "a.tif",
                "voxel_size_nm": [8, 8, 8],
                "sections": [0, 5],
                "lost": [1],
                "weight": 1.0,
            }
        ],
        "validation": [
            {"path": "b.tif", "voxel_size_nm": 8, "grey_values": [0.0, 255.0], "credit": "me"}
        ],
        "network": {"design": "gated", "channels": [8, 16], "layers": 1},
        "patches": {"size": 16, "zoom": [1.0, 1.2], "gamma": 0.1},
        "task": {"kind": "prior", "late": 0.5},
        "optimiser": {"batch": 4, "steps": 6, "decay": 0, "warm_up": 4, "rate": 0.003},
        "seed": 0,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(facts))
    return folder / "recipe.yaml"


def plan(folder: Path) -> Path:
    from emgen.config.run import load
    from emgen.run.plan import make
    from emgen.run.resolve import resolve

    made = make(resolve(load(settings(folder))))
    made.write(folder / "plan.json")
    # free facts of the card only make it long
    facts = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(facts))
    return folder / "plan.json"


def kernel(folder: Path) -> Path:
    import tifffile

    folder.mkdir(parents=True)
    tifffile.imwrite(folder / "psf.tif", np.full((7, 7), 1 / 49, np.float32))
    return folder / "psf.tif"


BASES = {
    "zarr2": Base("volume", zarr("0.4")),
    "zarr3": Base("volume", zarr("0.5")),
    "reference": Base("reference", reference),
    "inspected": Base("inspected", zarr("0.4")),
    "mask": Base("mask", mask),
    "tiff": Base("convert_format", tiff()),
    "ome": Base("convert_format", tiff(ome=True, metadata={"axes": "ZYX"})),
    "imagej": Base(
        "convert_format", tiff(imagej=True, metadata={"axes": "ZYX", "spacing": 0.04, "unit": "um"})
    ),
    "deflate": Base("convert_format", tiff(compression="zlib", tile=(16, 16))),
    "sections": Base("convert_format", pictures),
    "mrc": Base("convert_format", mrc),
    "hdf5": Base("convert_format", hdf5),
    "n5": Base("convert_format", n5),
    "precomputed": Base("convert_format", precomputed()),
    "shards": Base("convert_format", precomputed(sharding=SHARDED)),
    "jpeg": Base("convert_format", precomputed(encoding="jpeg")),
    "settings": Base("settings", settings),
    "weights": Base("weights", weights, alone=False),
    "pickle": Base("checkpoint", checkpoint(".pt")),
    "tensors": Base("checkpoint", checkpoint(".safetensors")),
    "recipe": Base("recipe", recipe),
    "plan": Base("plan", plan),
    "kernel": Base("kernel", kernel),
}
