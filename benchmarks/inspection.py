"""What an inspection finds: on volumes as they are, and on the same with planted faults.

    python benchmarks/inspection.py --data FOLDER [--seeds 3] [--only KIND ...]

FOLDER holds the volumes of `VOLUMES` as TIFF. Those marked "tuned" were looked at when limits were set, the others were
not; of the test tissue (FIB-25 training sample 2) nothing was tuned. Writes inspection.json and inspection.md.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from faults import FAULTS, Case

from emgen.arrays import Array
from emgen.config.restore import Restore
from emgen.geometry import VoxelSize
from emgen.run.inspection import findings
from emgen.run.inspection.look import Look

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Volume:
    """A volume and how it is looked at: voxel size in nm, and every how-many-eth section."""

    file: str
    voxel: tuple[float, float, float]
    every: tuple[int, ...] = (1,)
    tuned: bool = False
    planes: bool = False  # single sections, no stack


VOLUMES = (
    Volume("fib25_a", (8, 8, 8), (1, 4, 8), tuned=True),
    Volume("fib25_c", (8, 8, 8), (1, 4, 8), tuned=True),
    Volume("vnc_sstem", (50, 4.6, 4.6), tuned=True),
    Volume("platynereis", (25, 20, 20), (1, 4), tuned=True),
    Volume("fib25_b", (8, 8, 8), (1, 4, 8)),
    Volume("gala", (10, 10, 10), (1, 4)),
    Volume("hemibrain_cube", (8, 8, 8), (1, 4, 8)),
    Volume("deepimagej_hippocampus", (5, 5, 5), (1, 4)),
    Volume("mitoem_rat", (30, 8, 8)),
    Volume("cdeep3m_brain", (50, 10, 10)),
    *(
        Volume(name, (50, 8, 8), planes=True)
        for name in (
            *(
                "cem500k_cells",
                "chm_mouse_neuropil",
                "empiar10094_hela",
                "deepclem_tem",
                "neubias_cell",
                "fafb_slices",
            ),
            *(
                "emdiffuse_mouse_cortex",
                "emdiffuse_mouse_cortex_clean",
                "emdiffuse_mouse_cortex_noisy",
            ),
            *("deepfocus_trio", "sem_dwell_pairs_clean", "sem_dwell_pairs_noisy"),
        )
    ),
)


def look(case: Case) -> Look:
    """A case as `emgen run` would look at it."""
    voxel = VoxelSize(*case.voxel)
    mode = "isotropic" if voxel.anisotropy > 1.5 else "denoise"
    return Look.at(Array(case.voxels, voxel), Restore(**({"mode": mode} | case.settings)))


def cases(data: Path) -> Iterator[tuple[str, Volume, Case]]:
    """Name, volume and case of every volume as it is."""
    for volume in VOLUMES:
        path = data / f"{volume.file}.tif"
        if not path.exists():
            continue
        voxels = tifffile.imread(path)
        voxels = voxels[None] if voxels.ndim == 2 else voxels
        if volume.planes:
            for k in range(len(voxels)):
                yield f"{volume.file}, section {k}", volume, Case(voxels[k : k + 1], volume.voxel)
            continue
        for every in volume.every:
            z, y, x = volume.voxel
            kept = np.ascontiguousarray(voxels[::every])
            yield (
                f"{volume.file}{f', every {every}' if every > 1 else ''}",
                volume,
                Case(kept, (z * every, y, x)),
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder with the volumes as TIFF"
    )
    parser.add_argument(
        "--seeds", type=int, default=2, help="times that every fault is planted in every volume"
    )
    parser.add_argument(
        "--only", nargs="+", default=[], help="faults whose name contains one of these words"
    )
    parser.add_argument(
        "--report", action="store_true", help="write inspection.json and inspection.md"
    )
    args = parser.parse_args()
    clean, counts = [], {}
    for name, volume, case in cases(args.data):
        begun = time.monotonic()
        found = findings(look(case))
        seconds = time.monotonic() - begun
        clean.append(
            (
                name,
                volume,
                case.voxels.shape,
                [(f.what, f.severity, f.sections) for f in found],
                seconds,
            )
        )
        print(
            f"{seconds:5.1f} s  {name}: {', '.join(f'{f.what} ({f.severity}; {f.evidence})' for f in found)}",
            flush=True,
        )
    for name, (plant, codes) in FAULTS.items():
        if args.only and not any(word in name for word in args.only):
            continue
        count = defaultdict(lambda: [0, 0])
        missed = []
        for number, (where, volume, case) in enumerate(cases(args.data)):
            if volume.planes or len(case.voxels) < 8:
                continue
            for seed in range(args.seeds):
                rng = np.random.default_rng([number, seed])
                planted = plant(Case(case.voxels, case.voxel, dict(case.settings)), rng)
                if planted is None:
                    continue
                made = {f.what for f in findings(look(planted))}
                hit = bool(made & {*codes})
                count[volume.tuned][0] += hit
                count[volume.tuned][1] += 1
                if not hit:
                    missed.append(f"{where} ({', '.join(sorted(made)) or 'nothing'})")
        counts[name] = (codes, dict(count), missed)
        print(
            f"{name}: "
            + ", ".join(
                f"{'tuned' if t else 'others'} {a} of {b}"
                for t, (a, b) in sorted(count.items(), reverse=True)
            ),
            "missed:",
            *missed,
            flush=True,
        )


if __name__ == "__main__":
    main()
