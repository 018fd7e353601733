"""Hostile inputs made by hand, for `tests/hostile.py`: name, door, and what makes one in an empty folder."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from hostile_bases import BASES, settings_of, tissue

Make = Callable[[Path], Path]
MADE: dict[str, tuple[str, Make]] = {}


def made(entry: str, name: str) -> Callable[[Make], Make]:
    """List an input that goes through a door."""

    def listed(make: Make) -> Make:
        MADE[f"made-{name}"] = (entry, make)
        return make

    return listed


# ---- settings


def bomb(each: str) -> str:
    tens = (f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 9))
    return "\n".join([f"a0: &a0 {each}", *tens, ""])


def texts() -> Iterator[tuple[str, str]]:
    """Settings as text; {volume} stands for the path of a sound volume."""
    minimal = "run: a\ninput: {{volume: {volume}}}\n"
    yield "program", '__use_yte__: true\n__definitions__: [\'open("PWNED", "w")\']\n' + minimal
    yield "program-merged", "b: &b {{__use_yte__: true}}\n<<: *b\n" + minimal
    yield "program-escaped", '"\\x5f_use_yte__": true\n' + minimal
    yield "python", "!!python/object/apply:os.system ['touch PWNED']"
    yield "aliases", bomb("[x, x]") + "run: *a8\ninput: {{volume: {volume}}}\n"
    yield "aliases-of-keys", bomb("{{x: 1}}") + minimal
    yield "lost-aliases", bomb("[1, 2]") + "run: a\ninput: {{volume: {volume}, lost: *a8}}\n"
    yield "itself", "run: &a [*a]\ninput: *a\n"
    yield "deep", "run: " + "[" * 20_000
    yield "deep-keys", "run: " + "{{a: " * 3000
    yield "number", "run: a\ninput: {{volume: {volume}, lost: [" + "9" * 100_000 + "]}}\n"
    yield "long-name", "run: " + "a" * 9000 + "\ninput: {{volume: {volume}}}\n"
    yield "control", 'run: "a\\e[2J"\ninput: {{volume: "\\e]0;x\\a"}}\n'
    yield "two-documents", minimal + "---\n" + minimal
    yield "twice", minimal + minimal
    yield "secret", "run: a\ninput: {{volume: 'https://me:SECRET@example.invalid/a.zarr'}}\n"
    yield "date", "run: 2024-99-99\ninput: {{volume: {volume}}}\n"
    parts = {
        "wide-psf": "restore: {{mode: deblur, psf: {{sigma: 3000}}}}",
        "wide-psf-2": "restore: {{mode: deblur, psf: {{sigma: [1.0e+300, 1]}}}}",
        "thin-psf": "restore: {{mode: deblur, psf: {{sigma: 1.0e-300}}}}",
        "psf-device": "restore: {{mode: deblur, psf: {{kernel: /dev/zero}}}}",
        "prior-device": "restore: {{prior: /dev/zero}}",
        "prior-pickle": "restore: {{prior: $(touch PWNED).pt}}",
        "jobs": "restore: {{factor: 32}}\ngrid: {{block: [1, 1, 1], halo: [0, 0, 0], blocks_per_job: 1}}\n"
        "output: {{chunk: [1, 1, 1], shard: [1, 1, 1]}}",
        "chunk": "grid: {{block: [8192, 8192, 8192]}}\noutput: {{chunk: [8192, 8192, 8192], shard: [8192, 8192, 8192]}}",
        "shard": "grid: {{block: [4096, 4096, 4096]}}\noutput: {{chunk: [1, 1, 1], shard: [4096, 4096, 4096]}}",
        "sides": "grid: {{block: [4611686018427387904, 128, 128]}}",
        "tile": "qc: {{tile: [9000000000, 9000000000, 9000000000]}}",
        "tiles": "qc: {{tiles: 9000000000000}}",
        "samples": "restore: {{samples: 64, noise: 1.0e+308}}",
        "gain": "restore: {{noise: {{gain: 1.0e+300, sigma: 1.0e+300, black: -1.0e+300}}}}",
        "seed": "restore: {{seed: 99999999999999999999}}",
        "lost-all": "input: {{lost: [0, 1, 2, 3, 4, 5]}}",
        "lost-far": "input: {{lost: [9999999999999]}}",
        "estimator": "restore: {{estimator: ../../../etc/passwd}}",
        "itself-reference": "qc: {{reference: {volume}, labels: {volume}}}",
    }
    for name, part in parts.items():
        lost = part.startswith("input")
        head = part.replace("{{lost", "{{volume: {volume}, lost") if lost else part
        yield name, ("run: a\n" if lost else minimal) + head + "\n"


def settings_text(text: str) -> Make:
    def make(folder: Path) -> Path:
        volume = BASES["zarr3"].make(folder)
        (folder / "my.yaml").write_text(text.format(volume=volume))
        return folder / "my.yaml"

    return make


for _name, _text in texts():
    made("settings", f"settings-{_name}")(settings_text(_text))


@made("settings", "settings-device")
def _(folder: Path) -> Path:
    (folder / "my.yaml").symlink_to("/dev/zero")
    return folder / "my.yaml"


@made("settings", "settings-latin")
def _(folder: Path) -> Path:
    (folder / "my.yaml").write_bytes("run: \xe4\n".encode("latin-1"))
    return folder / "my.yaml"


@made("settings", "settings-large")
def _(folder: Path) -> Path:
    (folder / "my.yaml").write_text("run: a\n" * 300_000)
    return folder / "my.yaml"


# ---- OME-Zarr


def changed_zarr(base: str, change: Callable[[Path], None]) -> Make:
    def make(folder: Path) -> Path:
        path = BASES[base].make(folder)
        change(path)
        return path

    return make


def edited(name: str, **values: Any) -> Callable[[Path], None]:
    """Change keys of a JSON file in a volume; "a.b" is a key within a key."""

    def change(volume: Path) -> None:
        facts = json.loads((volume / name).read_text())
        for key, value in values.items():
            *outer, last = key.split("__")
            place = facts
            for part in outer:
                place = place[int(part)] if part.isdigit() else place[part]
            place[last] = value
        (volume / name).write_text(json.dumps(facts))

    return change


ZARR = {
    "objects": (
        "zarr2",
        edited("0/.zarray", dtype="|O", filters=[{"id": "pickle", "protocol": 4}]),
    ),
    "pickle-filter": ("zarr2", edited("0/.zarray", filters=[{"id": "pickle", "protocol": 4}])),
    "huge": ("zarr2", edited("0/.zarray", shape=[2**40, 2**40, 2**40])),
    "huge-one": ("zarr3", edited("0/zarr.json", shape=[2**62, 20, 24])),
    "jobs": ("zarr2", edited("0/.zarray", shape=[60_000_000, 60_000_000, 4])),
    "huge-chunk": ("zarr2", edited("0/.zarray", chunks=[4096, 4096, 4096], shape=[4096] * 3)),
    "scale": ("zarr2", edited(".zattrs", multiscales__0__datasets__0__path="../../../../etc")),
    "loop-path": ("zarr2", edited(".zattrs", multiscales__0__datasets__0__path="0/../0/../0")),
    "absolute": ("zarr2", edited(".zattrs", multiscales__0__datasets__0__path="/etc")),
    "names": ("zarr2", edited(".zattrs", multiscales__0__name="<script>alert(1)</script>" * 1000)),
    "levels": (
        "zarr2",
        edited(
            ".zattrs", multiscales=[{"axes": ["z", "y", "x"], "datasets": [{"path": "0"}] * 9999}]
        ),
    ),
    "no-list": ("zarr3", edited("zarr.json", attributes__ome__multiscales={"a": 1})),
    "attributes": (
        "zarr3",
        edited(
            "zarr.json", attributes__emgen="https://me:SECRET@host/", attributes__x=["\x1b[2J"] * 99
        ),
    ),
    "nan-scale": (
        "zarr3",
        edited(
            "zarr.json",
            attributes__ome__multiscales__0__datasets__0__coordinateTransformations=[
                {"type": "scale", "scale": [float("nan")] * 3}
            ],
        ),
    ),
    "tiny-scale": (
        "zarr3",
        edited(
            "zarr.json",
            attributes__ome__multiscales__0__datasets__0__coordinateTransformations=[
                {"type": "scale", "scale": [1e-300, 1e300, 1]}
            ],
        ),
    ),
    "codec": (
        "zarr3",
        edited("0/zarr.json", codecs=[{"name": "numcodecs.pickle", "configuration": {}}]),
    ),
    "codec-unknown": (
        "zarr3",
        edited("0/zarr.json", codecs=[{"name": "exec", "configuration": {"cmd": "touch PWNED"}}]),
    ),
    "shard": (
        "zarr3",
        edited(
            "0/zarr.json",
            chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2**40] * 3}},
        ),
    ),
    "zero-chunk": ("zarr2", edited("0/.zarray", chunks=[0, 0, 0])),
    "negative": ("zarr2", edited("0/.zarray", shape=[-6, 20, 24])),
    "axes": ("zarr2", edited(".zattrs", multiscales__0__axes=[{"name": "z"}] * 500)),
    "fill": ("zarr2", edited("0/.zarray", fill_value=10**40)),
}
for _name, (_base, _change) in ZARR.items():
    made("volume", f"zarr-{_name}")(changed_zarr(_base, _change))
    if "scale" in _name:
        made("inspected", f"inspected-{_name}")(changed_zarr(_base, _change))


class Evil:
    """What would leave a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[Any, Any]:
        return os.system, ("touch PWNED",)


@made("reference", "zarr-pickled-reference")
def _(folder: Path) -> Path:
    path = BASES["reference"].make(folder)
    import shutil

    shutil.rmtree(path)
    BASES["zarr2"].make(folder)
    edited("0/.zarray", dtype="|O", filters=[{"id": "pickle", "protocol": 4}], compressor=None)(
        path
    )
    for file in path.rglob("*"):
        if file.is_file() and not file.name.startswith("."):
            file.write_bytes(pickle.dumps(Evil()))
    return path


def chunk_of(path: Path) -> Path:
    return next(
        file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith(".")
    )


@made("volume", "zarr-zstd-bomb")
def _(folder: Path) -> Path:
    from numcodecs import Zstd

    path = BASES["zarr2"].make(folder)
    edited("0/.zarray", compressor={"id": "zstd", "level": 1})(path)
    for file in path.rglob("*"):
        if file.is_file() and not file.name.startswith("."):
            file.write_bytes(Zstd().encode(bytes(360)))
    # a frame that says that it is 8 GB
    chunk_of(path).write_bytes(
        bytes.fromhex("28b52ffde0") + struct.pack("<Q", 8 << 30) + b"\x02\x00\x00\x00" * 4000
    )
    return path


@made("volume", "zarr-zlib-bomb")
def _(folder: Path) -> Path:
    path = BASES["zarr2"].make(folder)
    edited("0/.zarray", compressor={"id": "zlib", "level": 1})(path)
    packer = zlib.compressobj(9)
    content = b"".join(packer.compress(bytes(1 << 24)) for _ in range(250)) + packer.flush()
    for file in path.rglob("*"):
        if file.is_file() and not file.name.startswith("."):
            file.write_bytes(content)
    return path


@made("volume", "zarr-blosc-bomb")
def _(folder: Path) -> Path:
    path = BASES["zarr2"].make(folder)
    chunk = chunk_of(path)
    content = bytearray(chunk.read_bytes())
    content[4:8] = struct.pack("<I", 2**31 - 100)  # uncompressed bytes
    chunk.write_bytes(content)
    return path


@made("volume", "zarr-linked-chunk")
def _(folder: Path) -> Path:
    path = BASES["zarr2"].make(folder)
    chunk = chunk_of(path)
    secret = folder.parent / "outside.bin"
    secret.write_bytes(chunk.read_bytes())
    chunk.unlink()
    chunk.symlink_to(secret)
    return path


@made("volume", "zarr-linked-level")
def _(folder: Path) -> Path:
    path = BASES["zarr2"].make(folder)
    outside = folder.parent / "outside-level"
    if not outside.exists():
        (path / "0").rename(outside)
    (path / "0").symlink_to(outside)
    return path


@made("volume", "zarr-linked-loop")
def _(folder: Path) -> Path:
    path = BASES["zarr2"].make(folder)
    chunk = chunk_of(path)
    chunk.unlink()
    chunk.symlink_to(chunk)
    return path


# ---- other formats


@made("convert_format", "n5-huge")
def _(folder: Path) -> Path:
    path = BASES["n5"].make(folder / "n")
    edited("attributes.json", dimensions=[2**40] * 3)(path)
    return path


@made("convert_format", "n5-huge-block")
def _(folder: Path) -> Path:
    path = BASES["n5"].make(folder / "n")
    edited("attributes.json", blockSize=[2**20] * 3, dimensions=[2**20] * 3)(path)
    return path


def linked_chunk(base: str, pattern: str) -> Make:
    """One chunk is a link to a file elsewhere."""

    def make(folder: Path) -> Path:
        path = BASES[base].make(folder / "a")
        chunk = next(file for file in sorted(path.rglob(pattern)) if file.is_file())
        chunk.rename(folder / "outside.bin")
        chunk.symlink_to(folder / "outside.bin")
        return path

    return make


MADE["made-n5-linked-chunk"] = ("convert_format", linked_chunk("n5", "0/0/*"))
MADE["made-precomputed-linked-chunk"] = ("convert_format", linked_chunk("precomputed", "*_*/*-*"))


@made("convert_format", "n5-outside")
def _(folder: Path) -> Path:
    path = BASES["n5"].make(folder / "n")
    outside = folder / "elsewhere"
    path.rename(outside)
    path.mkdir()
    (path / "s0").symlink_to(outside)
    return path


def info(**values: Any) -> Make:
    def make(folder: Path) -> Path:
        path = BASES["precomputed"].make(folder / "p")
        edited("info", **values)(path)
        return path

    return make


for _name, _values in {
    "huge": {"scales__0__size": [2**40] * 3},
    "huge-chunk": {"scales__0__size": [2**20] * 3, "scales__0__chunk_sizes": [[2**20] * 3]},
    "outside": {"scales__0__key": "../../../outside"},
    "absolute": {"scales__0__key": "/etc"},
    "address": {"scales__0__key": "https://me:SECRET@example.invalid/a"},
    "channels": {"num_channels": 2**30},
    "resolution": {"scales__0__resolution": [1e-300, 1e300, -1]},
    "offset": {"scales__0__voxel_offset": [2**62, -(2**62), 0]},
    "no-scales": {"scales": []},
    "many-scales": {"scales": [{"key": "a"}] * 9999},
}.items():
    made("convert_format", f"precomputed-{_name}")(info(**_values))


@made("convert_format", "hdf5-external")
def _(folder: Path) -> Path:
    import h5py

    (folder / "a").mkdir()
    (folder / "outside.bin").write_bytes(bytes(range(240)) * 12)
    with h5py.File(folder / "a/a.h5", "w") as file:
        file.create_dataset("v", (6, 20, 24), "u1", external=[("../outside.bin", 0, 2880)])
    return folder / "a/a.h5"


@made("convert_format", "hdf5-link")
def _(folder: Path) -> Path:
    import h5py

    path = BASES["hdf5"].make(folder / "elsewhere")
    (folder / "a").mkdir()
    with h5py.File(folder / "a/a.h5", "w") as file:
        file["volume"] = h5py.ExternalLink(str(path), "volume")
    return folder / "a/a.h5"


@made("convert_format", "hdf5-virtual-itself")
def _(folder: Path) -> Path:
    import h5py

    path = folder / "a.h5"
    layout = h5py.VirtualLayout((6, 20, 24), "u1")
    layout[:] = h5py.VirtualSource(".", "v", (6, 20, 24))
    with h5py.File(path, "w", libver="latest") as file:
        file.create_virtual_dataset("v", layout)
    return path


@made("convert_format", "hdf5-virtual-missing")
def _(folder: Path) -> Path:
    import h5py

    layout = h5py.VirtualLayout((6, 20, 24), "u1")
    layout[:] = h5py.VirtualSource("gone.h5", "v", (6, 20, 24))
    with h5py.File(folder / "a.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("v", layout, fillvalue=9)
    return folder / "a.h5"


@made("convert_format", "hdf5-huge")
def _(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("v", (2**21, 2**21, 2**21), "u1", chunks=(64, 64, 64))
    return folder / "a.h5"


@made("convert_format", "hdf5-huge-chunk")
def _(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset(
            "v", (1600, 1600, 1600), "u1", chunks=(1600, 1600, 1600), compression="gzip"
        )
    return folder / "a.h5"


@made("convert_format", "hdf5-soft-loop")
def _(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")
        file.create_group("g")["up"] = h5py.SoftLink("/g")
    return folder / "a.h5"


OME = (
    '<?xml version="1.0"?>{doctype}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels '
    'ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="{x}" SizeY="20" SizeZ="{z}" SizeC="1" SizeT="1" '
    'PhysicalSizeX="5" PhysicalSizeXUnit="nm">{data}</Pixels></Image></OME>'
)


def ome(x: int = 24, z: int = 6, data: str = "", doctype: str = "") -> Make:
    def make(folder: Path) -> Path:
        import tifffile

        (folder / "a").mkdir()
        for path in (folder / "a/a.ome.tif", folder / "outside.ome.tif"):
            text = OME.format(x=x, z=z, data=data, doctype=doctype)
            tifffile.imwrite(path, tissue(), description=text, metadata=None)
        return folder / "a/a.ome.tif"

    return make


for _name, _options in {
    "planes": {"z": 10**9},
    "plane-count": {"data": '<TiffData IFD="0" PlaneCount="1000000000"/>'},
    "wide": {"x": 2**40},
    "outside": {
        "z": 12,
        "data": "".join(
            f'<TiffData IFD="{k % 6}" FirstZ="{k}" PlaneCount="1"><UUID FileName="{"a" if k < 6 else "../outside"}.ome.tif">'
            f"urn:uuid:{k // 6}</UUID></TiffData>"
            for k in range(12)
        ),
    },
    "entities": {
        "doctype": '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]>',
        "data": "&c;",
    },
    "external-entity": {
        "doctype": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:/etc/passwd">]>',
        "data": "&x;",
    },
    "text": {"data": "x" * 10**6},
}.items():
    made("convert_format", f"ome-{_name}")(ome(**_options))


def tiff_tags(**values: int) -> Make:
    """A TIFF whose tags of these numbers say something else."""

    def make(folder: Path) -> Path:
        import tifffile

        path = BASES["tiff"].make(folder / "t")
        with tifffile.TiffFile(path, mode="r+b") as file:
            for code, value in values.items():
                tag = file.pages[0].tags.get(int(code[1:]))
                if tag is not None:
                    tag.overwrite(value)
        return path

    return make


for _name, _values in {
    "width": {"t256": 2**31},
    "length": {"t257": 2**31},
    "both": {"t256": 2**30, "t257": 2**30},
    "bits": {"t258": 65_000},
    "compression": {"t259": 50_000},
    "samples": {"t277": 65_000},
}.items():
    made("convert_format", f"tiff-{_name}")(tiff_tags(**_values))


@made("convert_format", "tiff-loop")
def _(folder: Path) -> Path:
    path = BASES["tiff"].make(folder / "t")
    content = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, first)[0]
    struct.pack_into(
        "<I", content, first + 2 + 12 * count, first
    )  # the page after the first is the first
    path.write_bytes(content)
    return path


@made("convert_format", "tiff-deflate-bomb")
def _(folder: Path) -> Path:

    (folder / "t").mkdir()
    packer = zlib.compressobj(9)
    content = b"".join(packer.compress(bytes(1 << 24)) for _ in range(230)) + packer.flush()
    tags = [
        (256, 4, 1, 60_000),
        (257, 4, 1, 60_000),
        (258, 3, 1, 8),
        (259, 3, 1, 8),
        (262, 3, 1, 1),
    ]
    tags += [
        (273, 4, 1, 8 + 2 + 9 * 12 + 4),
        (277, 3, 1, 1),
        (278, 4, 1, 60_000),
        (279, 4, 1, len(content)),
    ]
    header = (
        b"II*\0"
        + struct.pack("<IH", 8, len(tags))
        + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    )
    (folder / "t/a.tif").write_bytes(header + bytes(4) + content)
    return folder / "t/a.tif"


def png(width: int, height: int, rows: bytes, extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + extra
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def pngs(width: int, height: int, rows: bytes, count: int = 3) -> Make:
    def make(folder: Path) -> Path:
        (folder / "s").mkdir()
        for k in range(count):
            (folder / f"s/a_{k}.png").write_bytes(png(width, height, rows))
        return folder / "s"

    return make


MADE["made-png-size"] = ("convert_format", pngs(2**31 - 1, 2**31 - 1, zlib.compress(bytes(100))))
MADE["made-png-wide"] = ("convert_format", pngs(100_000, 100_000, zlib.compress(bytes(10**7))))
MADE["made-png-short"] = ("convert_format", pngs(20, 20, zlib.compress(bytes(100))))


@made("convert_format", "sections-links")
def _(folder: Path) -> Path:
    path = BASES["sections"].make(folder / "s")
    first = min(path.iterdir())
    first.rename(folder / "outside.png")
    first.symlink_to(folder / "outside.png")
    return path


@made("convert_format", "sections-names")
def _(folder: Path) -> Path:
    path = BASES["sections"].make(folder / "s")
    for k, file in enumerate(sorted(path.iterdir())):
        file.rename(path / f"\x1b[2J$(touch PWNED)_{k}.png")
    return path


def mrc_header(**values: int) -> Make:
    def make(folder: Path) -> Path:
        path = BASES["mrc"].make(folder / "m")
        content = bytearray(path.read_bytes())
        for word, value in values.items():
            struct.pack_into("<i", content, 4 * (int(word[1:]) - 1), value)
        path.write_bytes(content)
        return path

    return make


for _name, _values in {
    "huge": {"w1": 2**31 - 1, "w2": 2**31 - 1, "w3": 2**31 - 1},
    "negative": {"w1": -24},
    "mode": {"w4": 99},
    "extended": {"w24": 2**31 - 1},
    "extended-negative": {"w24": -1024},
    "axes": {"w17": 1, "w18": 1, "w19": 1},
}.items():
    made("convert_format", f"mrc-{_name}")(mrc_header(**_values))


# ---- networks


def carded(**changes: Any) -> Make:
    """Weights with a card that says something else."""

    def make(folder: Path) -> Path:
        path = BASES["weights"].make(folder / "w")
        card = json.loads(path.with_suffix(".json").read_text())
        path.with_suffix(".json").write_text(json.dumps({**card, **changes}))
        return path

    return make


for _name, _changes in {
    "channels": {"architecture": {"design": "gated", "channels": [8, 2**20]}},
    "many-channels": {"architecture": {"design": "gated", "channels": [8192] * 10, "layers": 64}},
    "levels": {"architecture": {"design": "gated", "channels": [8] * 5000}},
    "layers": {"architecture": {"design": "gated", "channels": [8], "layers": 10**9}},
    "context": {"architecture": {"design": "axial", "channels": [8], "context": 10**9}},
    "options": {
        "architecture": {
            "channels": [8, 16],
            "options": {"norm_num_groups": 10**9, "class_embed_type": "x"},
        }
    },
    "unet2d": {
        "architecture": {"channels": [8192] * 4, "norm": "group", "attention": [0, 1, 2, 3]}
    },
    "overrides": {"weights": "/etc/passwd", "stride": 10**9, "context": -1, "file": "../../x"},
    "name": {"name": "<script>\x1b[2J" * 9000},
    "deep": {"training": json.loads("[" * 500 + "]" * 500)},
}.items():
    made("weights", f"card-{_name}")(carded(**_changes))


@made("weights", "card-nested")
def _(folder: Path) -> Path:
    path = BASES["weights"].make(folder / "w")
    path.with_suffix(".json").write_text('{"a":' * 100_000)
    return path


@made("weights", "card-nan")
def _(folder: Path) -> Path:
    from safetensors.torch import load_file, save_file

    path = BASES["weights"].make(folder / "w")
    state = load_file(path)
    next(iter(state.values())).view(-1)[0] = float("nan")
    save_file(state, path)
    card = json.loads(path.with_suffix(".json").read_text())
    card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


def pickled(content: Callable[[], Any]) -> Make:
    def make(folder: Path) -> Path:
        import torch

        torch.save(content(), folder / "a.pt")
        return folder / "a.pt"

    return make


def ones(*shape: int) -> Any:
    import torch

    return torch.ones(*shape)


for _name, _content in {
    "program": lambda: {"ema": Evil()},
    "name": lambda: {
        "input_blocks.0.0.weight": ones(1),
        "input_blocks.9999999999.0.weight": ones(1),
    },
    "long-name": lambda: {"x" * 10**7: ones(1)},
    "many-names": lambda: {f"conv_in.{k}": ones(1) for k in range(2000)},
    "expanded": lambda: {"conv_in.weight": ones(1).expand(2**36)},
    "wide": lambda: {
        "conv_in.weight": ones(1),
        "down_blocks.0.resnets.0.conv1.weight": ones(10**6),
    },
    "list": lambda: [ones(1)] * 100,
    "complex": lambda: {"conv_in.weight": ones(2).to(dtype=__import__("torch").complex64)},
    "sparse": lambda: {"conv_in.weight": ones(2).to_sparse()},
}.items():
    made("checkpoint", f"pickle-{_name}")(pickled(_content))


@made("checkpoint", "pickle-protocol-0")
def _(folder: Path) -> Path:
    (folder / "a.pt").write_bytes(pickle.dumps(Evil(), protocol=0))
    return folder / "a.pt"


@made("checkpoint", "pickle-memo")
def _(folder: Path) -> Path:
    # lists of lists of the one before: what is printed of it would be endless
    content: list[Any] = []
    for _ in range(60):
        content = [content, content]
    (folder / "a.pt").write_bytes(pickle.dumps(content))
    return folder / "a.pt"


@made("checkpoint", "tensors-header")
def _(folder: Path) -> Path:
    (folder / "a.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    return folder / "a.safetensors"


@made("checkpoint", "tensors-shape")
def _(folder: Path) -> Path:
    head = json.dumps(
        {"conv_in.weight": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 4]}}
    ).encode()
    (folder / "a.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(4))
    return folder / "a.safetensors"


# ---- recipes, plans and point spread functions


def recipe_with(**changes: Any) -> Make:
    def make(folder: Path) -> Path:
        path = BASES["recipe"].make(folder / "r")
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))
        return path

    return make


for _name, _changes in {
    "network": {"network": {"design": "gated", "channels": [2**30, 2**30]}},
    "patch": {"patches": {"size": 10**9}},
    "batch": {"optimiser": {"batch": 10**12, "steps": 5, "decay": 0}},
    "secret": {"sources": [{"path": "https://me:SECRET@example.invalid/a.zarr"}]},
    "outside": {"sources": [{"path": "../../../../../../etc/passwd"}]},
    "name": {"name": "../../x"},
    "sections": {"sources": [{"path": "a.tif", "voxel_size_nm": 8, "sections": [2**62, 2**63]}]},
    "dataset": {"sources": [{"path": "a.tif", "dataset": "x" * 9000}]},
    "voxel": {"sources": [{"path": "a.tif", "voxel_size_nm": 1e-300}]},
    "task": {"task": {"kind": "axial", "context": 10**9, "factors": [1, 10**12]}},
}.items():
    made("recipe", f"recipe-{_name}")(recipe_with(**_changes))


@made("recipe", "recipe-aliases")
def _(folder: Path) -> Path:
    (folder / "recipe.yaml").write_text(bomb("[x, x]") + "name: *a8\n")
    return folder / "recipe.yaml"


@made("recipe", "recipe-pickled-source")
def _(folder: Path) -> Path:
    path = recipe_with(sources=[{"path": "a.ome.zarr"}])(folder)
    volume = BASES["zarr2"].make(path.parent)
    edited("0/.zarray", dtype="|O", filters=[{"id": "pickle", "protocol": 4}], compressor=None)(
        volume
    )
    for file in volume.rglob("*"):
        if file.is_file() and not file.name.startswith("."):
            file.write_bytes(pickle.dumps(Evil()))
    return path


@made("plan", "plan-nested")
def _(folder: Path) -> Path:
    (folder / "plan.json").write_text("[" * 200_000)
    return folder / "plan.json"


@made("plan", "plan-secret")
def _(folder: Path) -> Path:
    path = BASES["plan"].make(folder / "p")
    facts = json.loads(path.read_text())
    facts["config"]["input"]["volume"] = "https://me:SECRET@example.invalid/a.zarr"
    path.write_text(json.dumps(facts))
    return path


@made("kernel", "kernel-huge")
def _(folder: Path) -> Path:
    return tiff_tags(t256=2**30, t257=2**30)(folder)


@made("kernel", "kernel-device")
def _(folder: Path) -> Path:
    (folder / "psf.tif").symlink_to("/dev/zero")
    return folder / "psf.tif"


assert settings_of
