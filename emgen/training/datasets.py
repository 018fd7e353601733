"""The published volumes behind the paper's prior: where they are, what they are, what opens them.

They are listed in `datasets.yaml` beside this file. Nothing here downloads. Needs no torch.
"""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from emgen.config.faults import checked, read_mapping, said
from emgen.errors import EmgenError

LISTED = Path(__file__).with_name("datasets.yaml")

Text = Annotated[str, Field(min_length=1)]
Nanometres = Annotated[float, Field(gt=0)]


class Dataset(BaseModel):
    """A row of the paper's SI Table 1.

    Attributes:
        sample, pixel_size, equipment, source: as the table prints them.
        use: of the row in the paper.
        format: what the archive delivers.
        reader: module of `emgen.volumes.sources` that opens it, or "ome-zarr", which needs no import.
        open: a location as it is given to emgen, after the download where there is one.
        inside: the data set within a container.
        voxel_size_nm: (z, y, x) of what `source` delivers; None where it could not be seen.
        stack: whether its sections follow each other in z.
        licence: as the source states it.
        note: what a user should know: where table and source differ, what was not verified.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sample: Text
    pixel_size: Text
    equipment: Text
    use: Literal["training", "test"]
    source: Text
    format: Text
    reader: Literal["n5", "ome-zarr", "precomputed", "sections", "tiff"]
    open: Text
    inside: Text | None = None
    voxel_size_nm: tuple[Nanometres, Nanometres, Nanometres] | None = None
    stack: bool = True
    licence: Text
    note: str = ""

    @property
    def credit(self) -> str:
        """For a card: what it is, where it is from and under which terms."""
        return f"{self.sample}, {self.source} (licence: {self.licence})"


@cache
def registry(path: Path = LISTED) -> dict[str, Dataset]:
    """Every data set by its key.

    Raises:
        EmgenError: the list is not there, not YAML, or has a faulty entry.
    """
    name = f"the list of data sets {path}"
    entries = read_mapping(path, name, "my-data: {sample: liver, ...}")
    return checked(dict[str, Dataset], entries, name, "Its first lines say what an entry has.")


def lookup(key: str) -> Dataset:
    """A data set of the list.

    Raises:
        EmgenError: there is none of this name; close ones are named.
    """
    known = registry()
    if key in known:
        return known[key]
    names = {name.lower(): name for name in known}
    close = [names[each] for each in difflib.get_close_matches(key.lower(), names, cutoff=0.5)]
    advice = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}"
    raise EmgenError(f"there is no data set {said(key)} in {LISTED.name}; {advice}")
