"""What OME-XML and ImageJ's description say about a TIFF: voxel size, place, sign, other files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import tifffile

from emgen.errors import EmgenError
from emgen.geometry import VoxelSize
from emgen.volumes.sources.foreign import nanometres, plausible, size_of

# OME's names of types, and numpy's: https://docs.openmicroscopy.org/ome-model/6.3.1/
OME_TYPES = {"float": "float32", "double": "float64", "bit": "bool"}
MAX_PLANES = 2**20  # of an OME-TIFF: tifffile makes a list of them
SIGNED_16 = {"cf": 0, "c0": -32768, "c1": 1}  # how ImageJ marks signed numbers that it shifted
# ImageJ takes the printing resolution (72 dots per inch) for the size of a pixel
OF_PRINTING = ("inch", "inches", "in", "cm")


@dataclass(frozen=True)
class Description:
    """What is said about a stack besides its pixels.

    Attributes:
        voxel: size in nm, or None.
        offset: of the first voxel from the origin, in voxels (z, y, x).
        shifted: signed 16-bit numbers are stored unsigned, 32768 higher.
        dtype: name of the type that the description says, or None.
        notes: what the user should know, in sentences.
    """

    voxel: VoxelSize | None = None
    offset: tuple[float, float, float] = (0, 0, 0)
    shifted: bool = False
    dtype: str | None = None
    notes: tuple[str, ...] = ()


def describe(path: str, tiff: tifffile.TiffFile) -> Description:
    """The description of a TIFF, before its stack is looked for.

    Raises:
        EmgenError: it says what cannot be, or that the pixels are in files which are not to be read.
    """
    if tiff.is_ome:
        return _ome(path, tiff.ome_metadata or "<none/>")
    return _imagej(path, tiff) if tiff.is_imagej else Description()


def _ome(path: str, text: str) -> Description:
    xml = ElementTree.fromstring(text)
    if (elsewhere := xml.find(".//{*}BinaryOnly")) is not None:
        raise EmgenError(
            f"{path} is one file of an OME-TIFF that {elsewhere.get('MetadataFile', 'another file')} describes; "
            "save the whole as one OME-TIFF, or as a folder of sections"
        )
    for uuid in xml.iterfind(".//{*}TiffData/{*}UUID"):
        name = uuid.get("FileName", "")
        if "/" in name or "\\" in name or name == "..":
            raise EmgenError(
                f'{path} says that pixels are in "{name[:80]}"; only files beside it are read'
            )
    described = [_pixels(path, pixels) for pixels in xml.iterfind(".//{*}Pixels")]
    return described[0] if described else Description()


def _pixels(path: str, pixels: ElementTree.Element) -> Description:
    numbers = [_whole(path, pixels, f"Size{axis}") for axis in "XYZCT"]
    plausible(numbers, path)
    planes = math.prod(numbers[2:])
    blocks = pixels.findall("{*}TiffData")
    counts = [_whole(path, block, "PlaneCount") for block in blocks if "PlaneCount" in block.attrib]
    first = [
        _whole(path, block, f"First{axis}")
        for block in blocks
        for axis in "ZCT"
        if f"First{axis}" in block.attrib
    ]
    if planes > MAX_PLANES or max(counts + first, default=0) > planes:
        raise EmgenError(
            f"{path} says that it has {max([planes, *counts, *first])} planes, which cannot be: its OME-XML is damaged"
        )
    sizes = [
        # micrometres where the file names no unit: https://docs.openmicroscopy.org/ome-model/6.3.1/
        nanometres(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "um"))
        for axis in "ZYX"
    ]
    kind = pixels.get("Type")
    return Description(size_of(sizes), dtype=None if kind is None else OME_TYPES.get(kind, kind))


def _whole(path: str, element: ElementTree.Element, name: str) -> int:
    text = element.get(name, "1")
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise EmgenError(
            f'{path}: its OME-XML says {name} is "{text[:40]}"; expected a whole number'
        )
    return int(text)


def _imagej(path: str, tiff: tifffile.TiffFile) -> Description:
    metadata, tags = tiff.imagej_metadata or {}, tiff.pages.first.tags
    unit = str(metadata.get("unit", ""))
    units = {axis: str(metadata.get(f"{axis}unit", unit)) for axis in "zyx"}
    sizes = [nanometres(metadata.get("spacing"), units["z"])]
    for axis, name in (("y", "YResolution"), ("x", "XResolution")):
        # the resolution tags count pixels per unit
        count, length = tags[name].value if name in tags else (0, 1)
        sizes.append(nanometres(length / count if count else None, units[axis]))
    notes = []
    if unit.strip() in OF_PRINTING:
        notes.append(
            f"{path} counts pixels per {unit.strip()}, which is about printing and not taken as a voxel size"
        )
        sizes = []
    calibration = {name: metadata[name] for name in SIGNED_16 if name in metadata}
    shifted = calibration == SIGNED_16
    if calibration and not shifted:
        notes.append(f"{path} has a calibration of its grey values, which is not applied")
    return Description(size_of(sizes), _place(metadata), shifted, notes=tuple(notes))


def _place(metadata: dict[str, Any]) -> tuple[float, float, float]:
    """Where the first voxel lies: ImageJ says at which voxel the origin is."""
    z, y, x = (_number(metadata.get(f"{axis}origin")) for axis in "zyx")
    # a y axis that points up is about the coordinates shown, not about the rows
    return (-z, 0.0, -x) if metadata.get("inverty") else (-z, -y, -x)


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0.0
    return number if math.isfinite(number) else 0.0
