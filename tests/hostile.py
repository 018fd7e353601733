"""Damaged and hostile files through emgen's doors, each in a process of its own: `python tests/hostile.py FOLDER`.

Everything is imported once; each input then meets a fork of this process, with 3 GB of memory and 60 s. The outcome of
each is a line of JSON. `python tests/hostile.py FOLDER --only n5-17` repeats one.

An input is `<base>-<seed>`: a small sound input of that kind, changed by a random generator with that seed (0 leaves it
as it is); or `made-<name>`, one of those made by hand (`hostile_made.py`).
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

MEMORY, SECONDS = 3 << 30, 60
DOORS: dict[str, Callable[[Path], str]] = {}
# what may be written where a value stood
NASTY: list[Any] = [
    *(
        None,
        True,
        -1,
        0,
        1,
        7,
        2**16,
        2**31,
        2**40,
        2**63,
        10**30,
        0.5,
        -2.5,
        1e-300,
        1e300,
        float("nan"),
        float("inf"),
    ),
    *(
        "",
        "x",
        "x" * 5000,
        "../../outside",
        "/etc/passwd",
        "\x1b[2J",
        "\u202e",
        "nanometer",
        "nope",
        "|O",
        "<u2",
        ">f8",
    ),
    *(
        [],
        {},
        [[]],
        [None],
        [-1, 2, 3],
        [0, 0, 0],
        [2**40] * 3,
        {"a": {"b": []}},
        [1] * 300,
        [4, 4],
    ),
]


def door(function: Callable[[Path], str]) -> Callable[[Path], str]:
    """Something of emgen that takes a file from somebody else; says what it made of it."""
    DOORS[function.__name__] = function
    return function


def digest(voxels: Any) -> str:
    """A text that is the same for the same voxels."""
    return f"{voxels.shape} {hashlib.sha256(voxels.astype('f8').tobytes()).hexdigest()[:16]}"


@door
def convert_format(path: Path) -> str:
    """`emgen import`."""
    from emgen.geometry import Box, VoxelSize
    from emgen.volumes.importers import import_volume

    made = import_volume(str(path), Path("out/a.ome.zarr"), voxel=VoxelSize(40, 5, 5))
    return digest(made.read(Box.whole(made.shape)))


def run(settings: Path) -> str:
    """What `emgen run` does before Snakemake, and its first rules."""
    import yaml

    from emgen.cli.run import checked
    from emgen.config.run import load
    from emgen.geometry import Box
    from emgen.run.inspection import inspect
    from emgen.run.output import create_output
    from emgen.run.plan import Plan, make
    from emgen.run.resolve import resolve
    from emgen.volumes.volume import Volume

    os.chdir("out")
    checked(settings)
    spec = resolve(load(settings))
    folder = Path("results") / spec.config.run
    folder.mkdir(parents=True)
    found = inspect(spec.measured, spec.config)
    (folder / "inspect.json").write_text(found.model_dump_json())
    plan = make(spec)
    create_output(plan, spec, folder / "restored.ome.zarr")
    plan.write(folder / "plan.json")
    assert Plan.read(folder / "plan.json").key == plan.key
    measured = Volume.open(yaml.safe_load(settings.read_text())["input"]["volume"])
    return digest(measured.read(Box.whole(measured.shape)))


@door
def settings(path: Path) -> str:
    """Settings from somebody else, of a sound volume."""
    return run(path)


@door
def volume(path: Path) -> str:
    """An OME-Zarr from somebody else, with sound settings."""
    from hostile_bases import settings_of

    return run(settings_of(Path("settings.yaml"), path))


@door
def inspected(path: Path) -> str:
    """`emgen inspect` of an OME-Zarr from somebody else."""
    from emgen.cli.main import build_parser

    args = build_parser().parse_args(["inspect", str(path)])
    return f"exit code {args.run(args)}"


@door
def reference(path: Path) -> str:
    """A reference from somebody else."""
    from hostile_bases import settings_of

    given = settings_of(Path("settings.yaml"), path.with_name("sound.ome.zarr"), reference=path)
    from emgen.geometry import Box
    from emgen.volumes.volume import Volume

    run(given)
    found = Volume.open(path)
    return digest(found.read(Box.whole(found.shape)))


@door
def mask(path: Path) -> str:
    """A mask from somebody else."""
    from hostile_bases import settings_of

    from emgen.geometry import Box
    from emgen.volumes.volume import Volume

    run(settings_of(Path("settings.yaml"), path.with_name("sound.ome.zarr"), mask=path))
    found = Volume.open(path)
    return digest(found.read(Box.whole(found.shape)))


@door
def weights(path: Path) -> str:
    """Weights and their card."""
    from emgen.networks.card import resolve
    from emgen.networks.checkpoint import load_network

    resolve(str(path)).digest()
    network, card = load_network(str(path))
    return f"{card.sha256} {sum(float(value.sum()) for value in network.state_dict().values()):.6g}"


@door
def checkpoint(path: Path) -> str:
    """`emgen convert`."""
    from emgen.networks.published import convert

    return convert(path, Path("out/a.safetensors")).sha256


@door
def recipe(path: Path) -> str:
    """`emgen train` before its first step."""
    from emgen.training import recipe as recipes
    from emgen.training.training_volume import open_all

    chosen = recipes.read(path)
    data = path.parent / chosen.data
    volumes = open_all(((each, chosen.largest) for each in chosen.sources), data)
    return f"{[each.fingerprint for each in volumes]} {chosen.identity['seed']}"


@door
def plan(path: Path) -> str:
    """A plan, as a job reads it, and what is written of it."""
    from emgen.run.plan import Plan
    from emgen.run.provenance import write

    found = Plan.read(path)
    Path("out/provenance").mkdir()
    write(found, {}, Path("out"), found.config.qc)
    return f"{found.key} {found.shape}"


@door
def kernel(path: Path) -> str:
    """A point spread function."""
    from emgen.physics.psf import read_kernel

    return digest(read_kernel(str(path)))


@dataclass(frozen=True)
class Outcome:
    """What became of an input."""

    name: str
    kind: str  # taken, refused; or traceback, killed, late, outside, ran
    text: str
    seconds: float
    change: str = ""


def mutated(path: Path, seed: int) -> str:
    """Damage one of the files of an input; what was done, in words."""
    rng = random.Random(seed)
    files = sorted(
        file for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()
    )
    texts = [
        file for file in files if file.name in TEXTS or file.suffix in (".json", ".yaml", ".yml")
    ]
    if texts and rng.random() < 0.75:
        file = rng.choice(texts)
        how = rng.choice([changed_value] * 6 + [flipped, cut])
    else:
        file = rng.choice(files)
        how = rng.choice([flipped, flipped, cut, zeroed, inserted, deleted, doubled])
    return f"{file.name}: {how(file, rng)}"


TEXTS = (".zattrs", ".zarray", ".zgroup", "attributes.json", "info")


def changed_value(file: Path, rng: random.Random) -> str:
    """One value in JSON or YAML becomes a nasty one, or goes."""
    import yaml

    facts = (
        yaml.safe_load(file.read_text()) if file.suffix == ".yaml" else json.loads(file.read_text())
    )
    places: list[tuple[Any, Any, str]] = []

    def walk(tree: Any, key: str) -> None:
        for name in (
            list(tree)
            if isinstance(tree, dict)
            else range(len(tree))
            if isinstance(tree, list)
            else ()
        ):
            places.append((tree, name, f"{key}/{name}"))
            walk(tree[name], f"{key}/{name}")

    walk(facts, "")
    if not places:
        file.write_text(json.dumps(value := rng.choice(NASTY)))
        return f"all = {value!r:.40}"
    tree, name, key = rng.choice(places)
    if rng.random() < 0.15:
        del tree[name]
        said = "gone"
    else:
        tree[name] = rng.choice(NASTY)
        said = repr(tree[name])[:40]
    file.write_text(yaml.safe_dump(facts) if file.suffix == ".yaml" else json.dumps(facts))
    return f"{key} = {said}"


def flipped(file: Path, rng: random.Random) -> str:
    """A few bytes are others."""
    content = bytearray(file.read_bytes())
    for _ in range(rng.choice([1, 1, 3, 20])):
        if content:
            # headers stand first: half of the faults are there
            most = len(content) if rng.random() < 0.5 else min(len(content), 400)
            content[rng.randrange(most)] = rng.randrange(256)
    file.write_bytes(content)
    return "bytes flipped"


def cut(file: Path, rng: random.Random) -> str:
    """Its end is not there."""
    content = file.read_bytes()
    kept = int(len(content) * rng.choice([0, 0.3, 0.9, 0.99, 0.999, rng.random()]))
    file.write_bytes(content[:kept])
    return f"cut to {kept} of {len(content)}"


def zeroed(file: Path, rng: random.Random) -> str:
    """A part of it is zeros."""
    content = bytearray(file.read_bytes())
    start = rng.randrange(len(content) + 1)
    length = min(len(content) - start, rng.choice([4, 64, 4096]))
    content[start : start + length] = bytes(length)
    file.write_bytes(content)
    return f"{length} zeros from {start}"


def inserted(file: Path, rng: random.Random) -> str:
    """Bytes too many."""
    content = file.read_bytes()
    at = rng.randrange(len(content) + 1)
    file.write_bytes(content[:at] + rng.randbytes(rng.choice([1, 16, 1000])) + content[at:])
    return f"bytes inserted at {at}"


def deleted(file: Path, rng: random.Random) -> str:
    """It is not there."""
    file.unlink()
    return "deleted"


def doubled(file: Path, rng: random.Random) -> str:
    """Its content twice."""
    file.write_bytes(file.read_bytes() * 2)
    return "twice"


def attempt(
    name: str, entry: Callable[[Path], str], path: Path, folder: Path, change: str
) -> Outcome:
    """One input through one door, in a fork."""
    (folder / "out").mkdir()
    before = listing(folder)
    begun, reader_writer = time.monotonic(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(entry, path, folder, reader_writer[1])
    os.close(reader_writer[1])
    text, status = _waited(pid, reader_writer[0], begun)
    seconds = round(time.monotonic() - begun, 2)
    if status is None:
        return Outcome(name, "late", f"more than {SECONDS} s", seconds, change)
    if os.WIFSIGNALED(status):
        return Outcome(name, "killed", signal.Signals(os.WTERMSIG(status)).name, seconds, change)
    kind, _, said = text.partition(" ")
    if ran := [*folder.rglob("PWNED*"), *folder.parent.glob("PWNED*")]:
        return Outcome(name, "ran", str(ran), seconds, change)
    if listing(folder) != before:
        return Outcome(name, "outside", str(set(listing(folder)) ^ set(before)), seconds, change)
    return Outcome(name, kind or "killed", said, seconds, change)


def listing(folder: Path) -> dict[str, int]:
    """Every file of a folder with a checksum, what emgen may write apart."""
    allowed = (folder / "out", folder / "settings.yaml")
    return {
        str(path): zlib.crc32(path.read_bytes()) if path.is_file() else 0
        for path in sorted(folder.rglob("*"))
        if not any(path == each or each in path.parents for each in allowed)
    }


def _child(entry: Callable[[Path], str], path: Path, folder: Path, pipe: int) -> None:
    from emgen.errors import EmgenError

    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        said = f"taken {entry(path)}"
    except EmgenError as error:
        said = f"refused {error}"
    except BaseException:
        said = f"traceback {traceback.format_exc()}"
    os.write(
        pipe, said.encode()[-60_000:] if said.startswith("traceback") else said.encode()[:60_000]
    )
    os._exit(0)


def _waited(pid: int, pipe: int, begun: float) -> tuple[str, int | None]:
    """What a child said, and how it ended; None where it took too long."""
    pieces, left = [b""], SECONDS - (time.monotonic() - begun)
    while left > 0 and select.select([pipe], [], [], left)[0]:
        pieces.append(os.read(pipe, 65_536))
        if not pieces[-1]:
            break
        left = SECONDS - (time.monotonic() - begun)
    late = bool(pieces[-1]) or len(pieces) == 1
    if late:
        os.kill(pid, signal.SIGKILL)
    os.close(pipe)
    _, status = os.waitpid(pid, 0)
    return b"".join(pieces).decode(errors="replace"), None if late else status


def apart(function: Callable[[], Path]) -> Path:
    """What makes an input, in a fork: threads that a library starts would be lost in the forks of this process."""
    ends = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(ends[1], str(function()).encode())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(ends[1])
    said = b""
    while piece := os.read(ends[0], 65_536):
        said += piece
    os.close(ends[0])
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("an input could not be made")
    return Path(said.decode())


PLAIN = (
    *(
        "numcodecs.zarr3",
        "tensorstore",
        "h5py",
        "tifffile",
        "mrcfile",
        "PIL.Image",
        "scipy.ndimage",
    ),
    *("emgen.cli.run", "emgen.run.output", "emgen.run.plan", "emgen.run.provenance"),
    *("emgen.training.training_volume", "emgen.volumes.importers", "emgen.physics.psf"),
)
# a fork of a process that holds torch takes three times as long: these come last
WITH_TORCH = ("emgen.networks.published", "emgen.networks.checkpoint")
TORCH_DOORS = ("weights", "checkpoint")


def preload(modules: Iterable[str]) -> None:
    """Import what doors import, without a thread."""
    from emgen.run import inspection
    from emgen.volumes.sources import formats

    for name in (*modules, *(f"emgen.run.inspection.{each}" for each in inspection.NAMES)):
        import_module(name)
    formats()
    gc.collect()
    gc.freeze()


def main() -> None:
    """All inputs, or one."""
    from hostile_bases import BASES
    from hostile_made import MADE

    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", help="name of an input, or the beginning of several", default="")
    parser.add_argument("--each", type=int, default=30, help="changed inputs of each base")
    args = parser.parse_args()
    preload(PLAIN)
    place = args.folder.absolute()
    changed = [(f"{name}-{k}", BASES[name].door) for name in BASES for k in range(args.each)]
    cases = [*changed, *((name, entry) for name, (entry, _) in MADE.items())]
    bases: dict[str, Path] = {}
    for name, entry in sorted(cases, key=lambda case: case[1] in TORCH_DOORS):
        if not name.startswith(args.only):
            continue
        if entry in TORCH_DOORS and "torch" not in sys.modules:
            preload(WITH_TORCH)
        folder, change = place / name, "made"
        if name in MADE:
            folder.mkdir()
            path = apart(partial(MADE[name][1], folder))
        else:
            kind, _, seed = name.rpartition("-")
            home = place / "bases" / kind
            bases[kind] = bases.get(kind) or apart(partial(BASES[kind].make, home))
            shutil.copytree(home, folder, symlinks=True)
            path = folder / bases[kind].relative_to(home)
            change = (
                mutated(path if BASES[kind].alone else path.parent, int(seed))
                if int(seed)
                else "none"
            )
        print(json.dumps(attempt(name, DOORS[entry], path, folder, change).__dict__), flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
