"""What an inspection finds: on volumes as they are, and on the same with planted faults.

    python benchmarks/inspection.py --data FOLDER [--seeds 1] [--only WORD ...]

FOLDER holds the volumes of `VOLUMES` as TIFF. Those marked "tuned" were looked at when limits were set, the others were
not; of the test tissue (FIB-25 training sample 2) nothing was tuned. What is in
inspection.jsonl is not measured again. Writes inspection.jsonl and inspection.md.
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
from scores import Rows

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
    return Look.at(Array(case.voxels, voxel=voxel), Restore(**({"mode": mode} | case.settings)))


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


def sound(data: Path, table: Rows) -> None:
    """What is found in volumes as they are."""
    for name, volume, case in cases(data):
        if not table.missing(table="sound", row=name):
            continue
        begun = time.monotonic()
        made = findings(look(case))
        table.add(
            table="sound",
            row=name,
            tuned=volume.tuned,
            planes=volume.planes,
            shape=case.voxels.shape,
            seconds=round(time.monotonic() - begun, 2),
            found=[[f.what, f.severity, f.sections] for f in made],
        )


def planted(data: Path, table: Rows, seeds: int, only: list[str]) -> None:
    """How many of each planted fault are found."""
    for name, (plant, codes) in FAULTS.items():
        if (only and not any(word in name for word in only)) or not table.missing(
            table="planted", row=name
        ):
            continue
        counts, missed = {"tuned": [0, 0], "others": [0, 0]}, []
        for number, (where, volume, case) in enumerate(cases(data)):
            for seed in range(seeds) if not volume.planes else ():
                rng = np.random.default_rng([number, seed])
                damaged = plant(Case(case.voxels, case.voxel, dict(case.settings)), rng)
                if damaged is None:
                    continue
                made = {f.what for f in findings(look(damaged))}
                count = counts["tuned" if volume.tuned else "others"]
                count[0] += bool(made & {*codes})
                count[1] += 1
                missed += [] if made & {*codes} else [where]
        table.add(table="planted", row=name, codes=codes, seeds=seeds, missed=missed, **counts)


def write(rows: list[dict]) -> None:
    """`inspection.md`."""
    lines = [
        "# Inspection of the input",
        "",
        "Made by `python benchmarks/inspection.py` from the rows in inspection.jsonl, each with its commit, seed and machine.",
        "",
        "## Volumes as they are",
        "",
        "Limits were set on the volumes marked *; the others are validation. Single sections of a file are counted together.",
        "",
        "| volume | sections, or shape | found |",
        "|---|---|---|",
    ]
    groups: dict[str, list[dict]] = defaultdict(list)
    for row in rows:
        if row["table"] == "sound":
            groups[row["row"].split(", section")[0]].append(row)
    for name, group in groups.items():
        found = sorted(
            {f"{what} ({severity})" for row in group for what, severity, _ in row["found"]}
        )
        times = {
            f: sum(f in [f"{w} ({s})" for w, s, _ in row["found"]] for row in group) for f in found
        }
        said = [f"{f}, {n} of {len(group)}" if len(group) > 1 else f for f, n in times.items()]
        size = (
            f"{len(group)} single"
            if group[0]["planes"]
            else " x ".join(map(str, group[0]["shape"]))
        )
        lines.append(
            f"| {name}{' *' if group[0]['tuned'] else ''} | {size} | {'; '.join(said) or 'nothing'} |"
        )
    lines += [
        "",
        "## Planted faults",
        "",
        "Every fault is planted at random places and strengths in every stack above (the single sections apart), where it can be.",
        "",
        "| fault | finding | found, volumes with * | found, others | missed in |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        if row["table"] == "planted":
            cells = [f"{row[kind][0]} of {row[kind][1]}" for kind in ("tuned", "others")]
            missed = "; ".join(dict.fromkeys(row["missed"]))
            lines.append(
                f"| {row['row']} | {' or '.join(row['codes'])} | {' | '.join(cells)} | {missed} |"
            )
    (HERE / "inspection.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder with the volumes as TIFF"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="times that every fault is planted in every volume"
    )
    parser.add_argument(
        "--only", nargs="+", default=[], help="faults whose name contains one of these words"
    )
    args = parser.parse_args()
    table = Rows(HERE / "inspection.jsonl", ("table", "row"))
    sound(args.data, table)
    write(table.read())
    planted(args.data, table, args.seeds, args.only)
    write(table.read())


if __name__ == "__main__":
    main()
