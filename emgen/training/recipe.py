"""A recipe: everything a training run depends on, as a YAML file in `config/prior/`.

The same recipe with the same data, run once, gives the same weights, bit for bit on one kind of CPU.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from emgen.config.faults import checked, read_mapping
from emgen.config.run import refuse_secrets
from emgen.errors import EmgenError
from emgen.geometry import VoxelSize
from emgen.networks.architecture import check as check_architecture
from emgen.training.datasets import Dataset, lookup
from emgen.training import former
from emgen.training.tasks.settings import Part, Positive, PriorSettings, TaskSettings

Fraction = Annotated[float, Field(ge=0, lt=1)]
Nanometres = Annotated[float, Field(ge=1e-3, le=1e7)]


class SourceRecipe(Part):
    """A volume, or sections of it.

    Attributes:
        path: relative to the recipe's `data`: OME-Zarr, TIFF, a folder of sections, MRC, HDF5, N5 or a URL.
        inside: the data set within an HDF5 file or an N5 container.
        dataset: an entry of `emgen/training/datasets.yaml`: its credit, and its voxel size where the file has none.
        voxel_size_nm: (z, y, x), or one number for all; needed where neither file nor entry has it.
        sections: the first, and the one after the last; null is all that follow.
        stack: whether its sections follow each other in z; those that do not give xy planes only.
        lost: numbers of sections of the whole volume that say nothing of its grey values.
        noise: standard deviation of its white noise in grey values, which a prior shall not learn.
        grey_values: that become -1 and +1; percentiles of the whole volume by default, as they would be without its noise.
        weight: how often it is drawn, against the others; its number of voxels by default.
        credit: for the card.
    """

    path: str
    inside: str | None = None
    dataset: str | None = None
    voxel_size_nm: tuple[Nanometres, Nanometres, Nanometres] | None = None
    sections: tuple[Annotated[int, Field(ge=0)], Positive | None] | None = None
    stack: bool | None = None
    lost: tuple[Annotated[int, Field(ge=0)], ...] = ()
    noise: Annotated[float, Field(ge=0, le=1e30)] = 0.0
    grey_values: tuple[float, float] | None = None
    weight: Annotated[float, Field(gt=0)] | None = None
    credit: str = ""

    @field_validator("voxel_size_nm", mode="before")
    @classmethod
    def _one_number_for_all(cls, value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return (value,) * 3 if number else value

    @model_validator(mode="after")
    def _is_known(self) -> SourceRecipe:
        if self.sections is not None and self.sections[0] >= (self.sections[1] or math.inf):
            raise ValueError(
                f"sections: expected the first and the one after the last, found {self.sections}"
            )
        if self.dataset is not None:
            lookup(self.dataset)
        return self

    @property
    def listed(self) -> Dataset | None:
        """Its entry."""
        return lookup(self.dataset) if self.dataset else None

    def voxel(self, of_file: VoxelSize | None) -> VoxelSize | None:
        """Voxel size in nm: as the recipe gives it, as the file says (`of_file`), or as the data set's entry says."""
        if self.voxel_size_nm:
            return VoxelSize(*self.voxel_size_nm)
        if of_file is None and self.listed and self.listed.voxel_size_nm:
            return VoxelSize(*self.listed.voxel_size_nm)
        return of_file

    @property
    def is_stack(self) -> bool:
        """As given, or as the entry says."""
        if self.stack is None:
            return self.listed is None or self.listed.stack
        return self.stack

    @property
    def credits(self) -> str:
        """For the card."""
        return self.credit or (self.listed.credit if self.listed else "")

    @property
    def name(self) -> str:
        """For people and cards: its path within `data`, the data set inside, the sections."""
        path = PurePath(self.path)
        where = path.name if path.is_absolute() or "://" in self.path else os.path.normpath(path)
        part = f"[{self.sections[0]}:{self.sections[1] or ''}]" if self.sections else ""
        return f"{where}{f'/{self.inside}' if self.inside else ''}{part}"


class Patches(Part):
    """What is cut from the sources.

    Attributes:
        size: pixels on a side.
        symmetries: also turned and mirrored, in all eight ways.
        zoom: pixel sizes, in units of the source's, from and to.
        gamma, contrast: standard deviation of the logarithm of both changes; half of the latter also of brightness.
            The gamma of a source with noise stays.
    """

    size: Annotated[int, Field(gt=0, le=4096)] = 64
    symmetries: bool = True
    zoom: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.8, 1.25)
    gamma: Annotated[float, Field(ge=0)] = 0.15
    contrast: Annotated[float, Field(ge=0)] = 0.1


class Optimiser(Part):
    """How weights change.

    Attributes:
        method: adam is AdamW on everything; muon orthogonalises the steps of convolution kernels.
        rate: of AdamW.
        kernel_rate: of Muon.
        batch: patches a step, all processes together.
        steps: in all.
        warm_up: of them at the beginning, while the rate rises.
        decay: of them at the end, while it falls to zero.
        average: of the running average of the weights, which is what is validated and shipped.
        clip: norm of the gradient.
    """

    method: Literal["adam", "muon"] = "adam"
    rate: Annotated[float, Field(gt=0)] = 5e-4
    kernel_rate: Annotated[float, Field(gt=0)] = 0.02
    betas: tuple[Fraction, Fraction] = (0.9, 0.99)
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    batch: Annotated[int, Field(gt=0, le=65_536)] = 16
    steps: Positive = 20_000
    warm_up: Positive = 500
    decay: Annotated[int, Field(ge=0)] = 2_000
    average: Fraction = 0.999
    clip: Annotated[float, Field(gt=0)] = 1.0

    @model_validator(mode="after")
    def _decay_fits_steps(self) -> Optimiser:
        if self.decay > self.steps:
            raise ValueError(
                f"decay must be between 0 and steps ({self.steps}), found {self.decay}"
            )
        return self

    def rate_at(self, step: int) -> float:
        """Share of the full rate: linear warm-up, constant, linear decay."""
        return min(1.0, (step + 1) / self.warm_up, (self.steps - step) / max(self.decay, 1))


class Recipe(Part):
    """A training run.

    Attributes:
        name: of the prior.
        data: folder of the sources.
        network: arguments of `emgen.networks.build.build`.
        task: what is trained: the prior, or an estimate between (axial) or within sections.
        initial: weights to begin with, instead of random ones: of the same network, or those layers of another kind that are alike.
        precision: of the network while training; auto is bfloat16 on a GPU and float32 on a CPU.
        checkpoint_minutes: between two checkpoints, each of which is validated.
        keep: also keeps the running average of every checkpoint, to measure quality against time.
        note: for the card.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    data: str = "."
    sources: Annotated[tuple[SourceRecipe, ...], Field(min_length=1)]
    validation: Annotated[tuple[SourceRecipe, ...], Field(min_length=1)]
    network: dict[str, Any] = Field(default_factory=dict)
    initial: str | None = None
    patches: Patches = Patches()
    task: TaskSettings = PriorSettings()
    optimiser: Optimiser = Optimiser()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: Annotated[int, Field(ge=0)] = 0
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 5.0
    keep: bool = False
    note: str = ""

    @model_validator(mode="after")
    def _validation_is_held_out(self) -> Recipe:
        weighted = [source.weight is not None for source in self.sources]
        if any(weighted) and not all(weighted):
            raise ValueError("expected a weight for every source or for none")
        for sources in (self.sources, self.validation):
            called = names(sources)
            if twice := {name for name in called if called.count(name) > 1}:
                raise ValueError(f"two sources are called {', '.join(sorted(twice))}")
        for held_out in self.validation:
            for source in self.sources:
                if _overlap(held_out, source):
                    raise ValueError(
                        f"validation {held_out.name} is trained on as {source.name}; hold its sections out of `sources`"
                    )
        return self

    @model_validator(mode="after")
    def _network_is_of_sizes_that_there_are(self) -> Recipe:
        check_architecture(self.architecture)
        return self

    @model_validator(mode="after")
    def _noise_stays_white(self) -> Recipe:
        noisy = [source.name for source in (*self.sources, *self.validation) if source.noise]
        if not noisy:
            return self
        if not isinstance(self.task, PriorSettings) or self.patches.zoom != (1.0, 1.0):
            raise ValueError(
                f"{noisy[0]} has noise: only a prior can be trained without learning it, and patches of other pixel sizes would "
                f"change it; expected patches: {{zoom: [1, 1]}} and task: {{kind: prior}}, found zoom {list(self.patches.zoom)} "
                f"and kind {self.task.kind}"
            )
        if self.task.coupling != "independent":
            raise ValueError(
                f"{noisy[0]} has noise, which {self.task.coupling} coupling would take part in; expected task: "
                "{coupling: independent}"
            )
        return self

    @property
    def architecture(self) -> dict[str, Any]:
        """What the network is made of, as a card says it."""
        return {**self.task.architecture, **self.network}

    @property
    def largest(self) -> int:
        """Pixels on a side of a volume that a patch may need, before its pixel size is changed."""
        return round((self.patches.size + self.task.margin) * max(1.0, self.patches.zoom[1]))

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change when a run goes on. Its length, rates and place may."""
        facts = self.model_dump(mode="json")
        for name in ("name", "data", "checkpoint_minutes", "keep", "note"):
            del facts[name]
        if facts["initial"] is None:
            del facts["initial"]
        for name in ("steps", "decay", "rate", "kernel_rate"):
            del facts["optimiser"][name]
        for kind in ("sources", "validation"):
            for source, recipe in zip(facts[kind], getattr(self, kind), strict=True):
                source["path"] = recipe.name
                del source["credit"]
                # as if there were no such key, where it is not used
                for name in ("lost", "noise", "grey_values"):
                    if not getattr(recipe, name):
                        del source[name]
        return facts


def read(path: str | Path, **changes: Any) -> Recipe:
    """The recipe in a YAML file.

    Args:
        path: of the file.
        changes: `data`, or settings of the optimiser such as `steps`, in place of the file's; None leaves it.

    Raises:
        EmgenError: no such file, not YAML, or not a recipe, up to ten faults in one message; or a password or signature in
            an address.
    """
    name = f"the recipe {path}"
    facts = read_mapping(path, name, "name: my-prior")
    given = {key: value for key, value in changes.items() if value is not None}
    if "data" in given:
        facts["data"] = str(given.pop("data"))
    if given and isinstance(facts.get("optimiser", {}), dict):
        facts["optimiser"] = {**facts.get("optimiser", {}), **given}
    refuse_secrets(facts)
    try:
        today = former.translated(facts)
    except ValueError as error:
        raise EmgenError(f"{name} is not right:\n  {error}") from None
    return checked(Recipe, today, name)


def _overlap(one: SourceRecipe, other: SourceRecipe) -> bool:
    places = [(os.path.normpath(part.path), part.inside) for part in (one, other)]
    if places[0] != places[1]:
        return False
    if one.sections is None or other.sections is None:
        return True
    ends = [last or math.inf for _, last in (one.sections, other.sections)]
    return one.sections[0] < ends[1] and other.sections[0] < ends[0]


def names(sources: Sequence[SourceRecipe]) -> list[str]:
    """The names of sources, for cards and messages."""
    return [source.name for source in sources]
