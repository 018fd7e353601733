"""Names of the axes and of the sections across them."""

from __future__ import annotations

from typing import Literal

Axis = Literal["z", "y", "x"]
AXES: tuple[Axis, Axis, Axis] = ("z", "y", "x")
Plane = Literal["xy", "xz", "yz"]
PLANES: tuple[Plane, Plane, Plane] = ("xy", "xz", "yz")
"""Orientations of a section; PLANES[k] lies across AXES[k]."""
