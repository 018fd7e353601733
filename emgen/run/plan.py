"""The plan of a run: everything that is decided once, before the first block is restored."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.config import Config, parse
from emgen.config.qc import Qc
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, Zyx, zyx
from emgen.modes import Mode, mode
from emgen.networks.card import Card
from emgen.networks.card import resolve as resolve_card
from emgen.physics import interpolation, missing
from emgen.physics.grey_scale import fit_grey_scale
from emgen.physics.no_data import no_data_of
from emgen.physics.noise_model import NoiseModel
from emgen.physics.psf import Kernel
from emgen.physics.tissue import Mask, Seen, States, Tissue, as_measured
from emgen.run.inspection.corrections import decide
from emgen.run.resolve import RunSpec, cut
from emgen.run.whole_file import write_whole
from emgen.volumes.corrected import Corrections, corrected
from emgen.volumes.grid import Grid
from emgen.volumes.intensity import Intensity
from emgen.volumes.measured import Measured
from emgen.volumes.samples import fingerprint, read_samples, says_absent

METHOD = 4
"""Part of the resume key: raised whenever the voxels of a block would come out differently."""
PLAN_SCHEMA = 3
"""Of `plan.json`: raised whenever a program of another version could misread it."""

PLAN_FILE = "plan.json"
PLANNED_FILE = "planned.json"
"""Snakemake's mark that the plan is made. It may delete this, its output, at any time; the plan stays."""
REMADE = (
    "start the run again: the plan is made again from the settings and the input, compared with the result that is "
    "there, and what is done stays"
)


class DamagedPlan(EmgenError):
    """There is no plan that could be read; the run's settings and input give it again."""


@dataclass(frozen=True)
class Plan:
    """`plan.json`: what every job of a run reads.

    Attributes:
        config: the run's settings, without those of quality control: they change no voxel, and their rules get them.
        measured_shape: voxels of the input (z, y, x).
        measured_voxel: their size in nm.
        dtype: of the output's voxels.
        intensity: the grey values that become -1 and +1.
        noise_model: the noise of the measurement, in grey values.
        missing: numbers of the measured sections that hold no image.
        no_data: grey values that stand for "nothing was measured" where they fill squares.
        rim: pixels beside them that are not trusted.
        absent: whether voxels were not measured whatever is stored: a mask, missing chunks or NaN say so.
        blank: share of the sampled voxels that show no tissue, and stay as they are.
        inferred: share of the sampled voxels in holes of the tissue, which are restored.
        corrections: what is set right on reading; None where nothing is.
        psf: point spread function (y, x), None where there is none or it is still to be fitted.
        prior: name or path of the prior's weights, and what its card says.
        estimator: the same of the estimator, None where sampling begins from linear interpolation.
        settings: what the voxels depend on, see `RunSpec.settings`.
        fingerprint: of the input's voxels.
        key: hash of everything that the voxels depend on; the resume key of block stores and outputs.

    The drawing of its boxes is in docs/architecture.md.
    """

    config: Config
    measured_shape: Zyx
    measured_voxel: VoxelSize
    dtype: str
    intensity: Intensity
    noise_model: NoiseModel
    missing: tuple[int, ...]
    no_data: tuple[float, ...]
    rim: int
    absent: bool
    blank: float
    inferred: float
    corrections: Corrections | None
    psf: Kernel | None
    prior: dict[str, Any]
    estimator: dict[str, Any] | None
    settings: dict[str, Any]
    fingerprint: str
    key: str

    @cached_property
    def mode(self) -> Mode:
        """Everything that depends on what is restored, and how."""
        return mode(self.config.restore, self.measured_shape, self.measured_voxel, self.psf)

    @property
    def shape(self) -> Zyx:
        """Voxels of the output (z, y, x)."""
        return self.mode.shape

    @property
    def voxel(self) -> VoxelSize:
        """Size of the output's voxels in nm."""
        return self.mode.voxel

    @property
    def scale(self) -> Zyx:
        """Output voxels per measured voxel (z, y, x)."""
        return self.mode.acquisition.scale

    @property
    def centre(self) -> tuple[float, float, float]:
        """Where measured voxel 0 lies, in output voxels (z, y, x)."""
        return self.mode.acquisition.centre

    @cached_property
    def grid(self) -> Grid:
        """The blocks of the output."""
        return cut(self.config, self.mode)

    @property
    def several_samples(self) -> bool:
        """Whether the spread of samples is written too."""
        return self.config.restore.samples > 1

    @property
    def marks_tissue(self) -> bool:
        """Whether a volume is written that says which voxels show tissue: not all do."""
        return bool(self.no_data or self.missing or self.absent)

    @property
    def story(self) -> tuple[str, ...]:
        """What was done, in sentences for the report."""
        return (*self.mode.story(self), *([self.corrections.story] if self.corrections else []))

    @property
    def bracketed_sections(self) -> tuple[int, int]:
        """The output sections (first, stop) with measured ones on both sides."""
        return self.mode.bracketed_sections(self.missing)

    @property
    def extrapolated(self) -> Box | None:
        """Output sections beyond the last measured one, which nothing on the far side supports."""
        return self.mode.extrapolated(self.missing)

    def aligned(self, outer: Box) -> Box:
        """The outer box of a block, its start rounded down to a multiple of the networks' stride.

        A network then sees every voxel at the same place in its coarsest pixel, wherever blocks begin.
        """
        networks = [card for card in (self.prior, self.estimator) if card]
        strides = self.mode.strides(math.lcm(*(int(card["stride"]) for card in networks)))
        return Box(zyx([a - a % n for a, n in zip(outer.start, strides, strict=True)]), outer.stop)

    @property
    def estimator_context(self) -> int:
        """Sections on either side that the estimator sees; 0 without one."""
        return int(self.estimator["context"]) if self.estimator else 0

    def context_box(self, box: Box) -> Box:
        """`box`, grown along z by the context sections of the estimator where the mode works section by section."""
        return self.mode.context(box, self.estimator_context)

    def interpolation_support(self, box: Box) -> Box:
        """The measured voxels between which every output voxel of `box` is interpolated, past missing sections."""
        near = self.mode.acquisition.support(box, self.measured_shape)
        return missing.expand_past_missing(near, self.missing, self.measured_shape[0])

    def read_box(self, box: Box) -> Box:
        """The measured voxels that `box` is restored from."""
        return self.interpolation_support(self.context_box(box))

    @cached_property
    def tissue(self) -> Tissue:
        """The rule by which measured voxels that show tissue are told from others."""
        settings = self.config.input
        return Tissue(
            self.measured_shape,
            self.no_data,
            self.missing,
            self.rim,
            settings.holes,
            max(self.scale[0], self.measured_voxel.anisotropy),
            self.absent or np.dtype(self.dtype).kind == "f",
        )

    def surroundings(self, box: Box) -> Box:
        """The measured voxels to read in order to see those of `box`: what tells where there is tissue."""
        return self.tissue.surroundings(box)

    def see(self, measured: Measured, box: Box) -> Seen:
        """The measured voxels of a box, made up where nothing was measured."""
        around = self.surroundings(box)
        return self.seen(measured.read(around), measured.absent(around), around, box)

    def seen(self, voxels: npt.NDArray[Any], absent: Mask | None, around: Box, box: Box) -> Seen:
        """As `see`, of voxels of `around` that were read, and of those among them that are absent."""
        return self.tissue.seen(voxels, around, box, absent, self.intensity.middle)

    def states(self, measured: Measured, box: Box) -> tuple[States, npt.NDArray[Any]] | None:
        """What each output voxel of a box is (`emgen.physics.tissue`), and the grey value measured nearest to it.

        None where all were measured.
        """
        if self.tissue.all_measured:
            return None
        around = self.surroundings(self.nearest_box(box))
        return self.states_of(measured.read(around), measured.absent(around), around, box)

    def states_of(
        self, voxels: npt.NDArray[Any], absent: Mask | None, around: Box, box: Box
    ) -> tuple[States, npt.NDArray[Any]] | None:
        """As `states`, of measured voxels of `around` that were read, and of those among them that are absent."""
        states = self.tissue.states(voxels, around, absent)
        if states is None:
            return None
        near = self.nearest_box(box)
        inside = near.relative_to(around).slices
        index = np.ix_(*(self._nearest(axis, box) - near.start[axis] for axis in range(3)))
        return states[inside][index], voxels[inside][index]

    def nearest_box(self, box: Box) -> Box:
        """The measured voxels that are nearest to those of a box of the output."""
        return interpolation.nearest(box, self.scale, self.centre, self.measured_shape)

    def _nearest(self, axis: int, box: Box) -> npt.NDArray[np.int64]:
        scale, centre, length = self.scale[axis], self.centre[axis], self.measured_shape[axis]
        return interpolation.nearest_index(box.start[axis], box.stop[axis], scale, centre, length)

    def interpolated(self, measured: Measured, box: Box) -> npt.NDArray[np.float32]:
        """Linear interpolation of the measured voxels in grey values: the baseline of every figure.

        What shows no tissue is as it was measured.
        """
        return as_measured(self.continued(measured, box), self.states(measured, box))

    def continued(self, measured: Measured, box: Box) -> npt.NDArray[np.float32]:
        """As `interpolated`; what shows no tissue is made up from the tissue around."""
        support = self.interpolation_support(box)
        voxels = self.see(measured, support).voxels
        return interpolation.linear(voxels, support, box, self.scale, self.centre)

    def write(self, path: str | Path) -> None:
        """Write `plan.json`, whole or not at all."""
        facts = {
            "schema_version": PLAN_SCHEMA,
            **asdict(self),
            "config": self.config.model_dump(mode="json", exclude={"qc"}),
        }
        write_whole(path, json.dumps({**facts, "sha256": _digest(facts)}, indent=2) + "\n")

    @classmethod
    def of(cls, run: str | Path) -> Plan:
        """The plan in a run's folder; `EmgenError` as `read` has it."""
        return cls.read(Path(run) / PLAN_FILE)

    @classmethod
    def read(cls, path: str | Path) -> Plan:
        """Read `plan.json`.

        Raises:
            DamagedPlan: it is missing, cut short, or no plan.
            EmgenError: it is of another version of emgen.
        """
        try:
            facts = json.loads(Path(path).read_text())
        except FileNotFoundError:
            raise DamagedPlan(f"there is no plan at {path}; {REMADE}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise DamagedPlan(f"{path} is not a plan ({error}); {REMADE}") from None
        if not isinstance(facts, dict) or not {"config", "key"} <= set(facts):
            raise DamagedPlan(f"{path} is not a plan: it has no settings or no key; {REMADE}")
        version = facts.get("schema_version", 1)
        if version != PLAN_SCHEMA:
            raise EmgenError(
                f"{path} was written by another version of emgen: expected a plan of schema {PLAN_SCHEMA}, found "
                f"{version}{' (emgen 0.1.0)' if version == 1 else ''}. Finish the run with that version, or choose "
                "another `run` name"
            )
        digest, stated = facts.pop("sha256", None), facts.pop("schema_version")
        if digest != _digest({"schema_version": stated, **facts}):
            raise DamagedPlan(
                f"{path} is damaged: its digest is not that of what it holds; {REMADE}"
            )
        try:
            return cls(
                **{
                    **facts,
                    "config": parse(facts["config"]),
                    "measured_shape": zyx(facts["measured_shape"]),
                    "measured_voxel": VoxelSize(**facts["measured_voxel"]),
                    "intensity": Intensity(**facts["intensity"]),
                    "noise_model": NoiseModel(**facts["noise_model"]),
                    "missing": tuple(facts["missing"]),
                    "no_data": tuple(facts["no_data"]),
                    "corrections": Corrections.of(facts["corrections"]),
                    "psf": facts["psf"] and tuple(map(tuple, facts["psf"])),
                }
            )
        except (EmgenError, KeyError, TypeError, ValueError) as error:
            raise DamagedPlan(f"{path} is damaged ({error}); {REMADE}") from None


def without_qc(config: Config) -> Config:
    """Settings as a plan has them: those of quality control change no voxel, and are at their defaults."""
    return config.model_copy(update={"qc": Qc()})


def _digest(facts: dict[str, Any]) -> str:
    """SHA-256 of what a plan holds, so that a single changed character is noticed."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def make(spec: RunSpec, adapted: str | Path | None = None, psf: str | Path | None = None) -> Plan:
    """Read samples of the input and decide the rest.

    Args:
        spec: what the metadata says.
        adapted: weights of the prior adapted to this input, where the settings ask for one.
        psf: `psf.json` that was fitted to this input (`emgen.run.fit_psf`), where they ask for that.

    Raises:
        EmgenError: sampled voxels are constant or not finite, or the prior or the point spread function was made for
            other voxels.
    """
    measured, restore = spec.measured, spec.config.restore
    without_image = missing.resolve_missing(measured, spec.config.input.lost)
    samples = read_samples(measured)
    identity = fingerprint(measured, samples)
    no_data, rim = no_data_of(samples, measured.shape, spec.config.input.no_data, without_image)
    corrections = decide(measured, spec.config.input, without_image, no_data)
    measured = corrected(measured, corrections)
    samples = read_samples(measured) if corrections else samples
    rule = Tissue(measured.shape, no_data, without_image, rim, spec.config.input.holes)
    with_image, blank, inferred = rule.of_samples(measured, samples)
    intensity, noise = fit_grey_scale(with_image, spec.mode.noise_setting, measured.path)
    weights = restore.prior if adapted is None else str(adapted)
    prior = spec.prior if adapted is None else _adapted_to(adapted, spec, identity)
    kernel = spec.mode.psf if psf is None else _fitted_to(psf, spec, identity)
    decided = [asdict(intensity), asdict(noise), without_image, no_data, rim, kernel]
    decided += [asdict(corrections)] if corrections else []
    key = [METHOD, spec.settings, prior.sha256, identity, *decided]
    estimator = spec.estimator
    return Plan(
        config=without_qc(spec.config),
        measured_shape=measured.shape,
        measured_voxel=measured.voxel,
        dtype=spec.dtype.name,
        intensity=intensity,
        noise_model=noise,
        missing=without_image,
        no_data=no_data,
        rim=rim,
        absent=says_absent(spec.measured) or not all(np.isfinite(part).all() for part in samples),
        blank=blank,
        inferred=inferred,
        corrections=corrections,
        psf=kernel,
        prior={"weights": weights, **prior.digest()},
        estimator=None
        if estimator is None
        else {"weights": spec.mode.estimator_name, **estimator.digest()},
        settings=spec.settings,
        fingerprint=identity,
        key=hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest(),
    )


def _adapted_to(weights: str | Path, spec: RunSpec, identity: str) -> Card:
    card = resolve_card(str(weights))
    if card.facts.get("adaptation", {}).get("input") != identity:
        raise EmgenError(
            f"{weights} was adapted to other voxels than {spec.measured.path} holds now; remove {Path(weights).parent} "
            "and run again"
        )
    return card


def _fitted_to(path: str | Path, spec: RunSpec, identity: str) -> Kernel:
    facts = json.loads(Path(path).read_text())
    if facts.get("input") != identity:
        raise EmgenError(
            f"{path} was fitted to other voxels than {spec.measured.path} holds now; remove it and run again"
        )
    kernel: Kernel = tuple(map(tuple, facts["kernel"]))
    replace(spec.mode, psf=kernel).refuse_grid(spec.grid)
    return kernel
