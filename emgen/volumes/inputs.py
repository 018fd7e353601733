"""The measured volume that the settings name, looked at before it is used."""

from __future__ import annotations

from emgen.config.input import Input
from emgen.errors import EmgenError
from emgen.geometry import VoxelSize
from emgen.volumes.masked import MaskedVolume, open_mask
from emgen.volumes.measured import Measured
from emgen.volumes.missing_chunks import count_missing
from emgen.volumes.volume import Volume

# Voxels of electron microscopy in nm, generously: from atoms in cryo-tomograms to overviews of whole brains. Sizes
# beyond them are wrong units, such as nm that are called micrometres.
SMALLEST_VOXEL, LARGEST_VOXEL = 0.1, 100_000.0
MOST_ANISOTROPY = 250.0
"""The longest side of a voxel over its shortest: 100 nm sections with pixels of 0.4 nm."""


def open_input(settings: Input) -> Volume | MaskedVolume:
    """The measured volume of a run, with its mask where it has one.

    Raises:
        EmgenError: as `Volume.open` does, or it holds labels, its voxels have sizes that no microscope gives, or
            the mask does not fit.
    """
    given = None if settings.voxel_size is None else VoxelSize(*settings.voxel_size)
    volume = Volume.open(settings.volume, voxel=given, missing=settings.missing_chunks)
    if volume.label:
        raise EmgenError(
            f"{volume.path} is a label image: its voxels are numbers of objects; expected grey values"
        )
    refuse_absurd_voxel(
        volume.voxel, f"{volume.path}", "set input.voxel_size (z, y, x in nm) to what was measured"
    )
    mask = None if settings.mask is None else open_mask(settings.mask, volume)
    chunks = settings.missing_chunks == "blank"
    return MaskedVolume(volume, mask, chunks) if mask or chunks else volume


def chunk_note(measured: Measured, settings: Input) -> str | None:
    """What to say of chunks that are not there, or that nobody can count, of a run's input and its mask.

    Returns:
        Sentences; None where all chunks are there.

    Raises:
        EmgenError: some of the input are missing, and the settings do not say that they are blank.
    """
    if isinstance(measured, MaskedVolume):
        notes = [_volume_note(measured.volume, settings), _mask_note(measured.mask)]
    else:
        notes = [_volume_note(measured, settings)] if isinstance(measured, Volume) else []
    return "; ".join(note for note in notes if note) or None


def _mask_note(mask: Volume | None) -> str | None:
    """Masks are blank in many places, and a copy of one that broke off says of tissue that there is none."""
    found = None if mask is None else count_missing(mask)
    if mask is None or found is None or not found.count:
        return None
    return f"input.mask: {mask.path}: {found}; they are taken as no tissue"


def _volume_note(measured: Volume, settings: Input) -> str | None:
    found = count_missing(measured)
    if found is None:
        return (
            f"{measured.path}: its chunks are not counted (a web server lists none, and there may be too many); a job that "
            f"meets a missing one {'ends' if settings.missing_chunks == 'refuse' else 'takes it as blank'}"
        )
    if not found.count:
        return None
    if settings.missing_chunks == "refuse":
        raise EmgenError(
            f"{measured.path}: {found}. A copy may have broken off: copy the volume again. If what is missing is blank, set "
            "`input: {missing_chunks: blank}`"
        )
    return f"{measured.path}: {found}; they are taken as blank"


def refuse_broken_reference(path: str | None, settings: Input) -> None:
    """`EmgenError` if chunks of a reference are not there, and the settings of the input do not say that they are blank.

    Labels are blank in many places: a chunk of them that is not there is blank too.
    """
    found = None if path is None else count_missing(Volume.open(path))
    if found is not None and found.count and settings.missing_chunks == "refuse":
        raise EmgenError(
            f"qc.reference: {path}: {found}. A copy may have broken off: copy it again. If what is missing is blank, set "
            "`input: {missing_chunks: blank}`"
        )


def refuse_absurd_voxel(voxel: VoxelSize, where: str, advice: str) -> None:
    """`EmgenError` for a voxel size that no electron microscope gives.

    Args:
        voxel: in nm.
        where: whose it is, for messages.
        advice: what to do.
    """
    if any(not SMALLEST_VOXEL <= size <= LARGEST_VOXEL for size in voxel):
        raise EmgenError(
            f"{where} has voxels of {voxel}; expected {SMALLEST_VOXEL:g} to {LARGEST_VOXEL:g} nm along every axis. "
            f"Was the unit mistaken (micrometres for nm)? If so, {advice}"
        )
    if max(voxel) > MOST_ANISOTROPY * min(voxel):
        raise EmgenError(
            f"{where} has voxels of {voxel}, {max(voxel) / min(voxel):.0f} times as long as wide; expected at most "
            f"{MOST_ANISOTROPY:g} times. Was the unit of one axis mistaken (nm for micrometres)? If so, {advice}"
        )
