"""Units of length, by all the names that files give them: the one table for every format."""

from __future__ import annotations

import unicodedata

# words are looked up without case, plural and British spelling
WORDS = {
    "picometer": 1e-3,
    "angstrom": 0.1,
    "ångström": 0.1,
    "angstroem": 0.1,
    "nanometer": 1.0,
    "micrometer": 1e3,
    "micron": 1e3,
    "millimeter": 1e6,
    "centimeter": 1e7,
    "decimeter": 1e8,
    "meter": 1e9,
    "inch": 2.54e7,
    "inche": 2.54e7,  # the plural without its s
}
# symbols in their own case: Mm is not mm, and Pm not pm
SYMBOLS = {
    "pm": 1e-3,
    "Å": 0.1,
    "A": 0.1,
    "Ang": 0.1,
    "nm": 1.0,
    "NM": 1.0,
    "um": 1e3,
    "uM": 1e3,
    "Um": 1e3,
    "UM": 1e3,
    "\N{GREEK SMALL LETTER MU}m": 1e3,
    "\N{GREEK SMALL LETTER MU}": 1e3,
    # the micro sign as ImageJ escapes it, and as UTF-8 that was read as Latin-1
    "\\u00B5m": 1e3,
    "\\u00b5m": 1e3,
    "\N{LATIN CAPITAL LETTER A WITH CIRCUMFLEX}\N{GREEK SMALL LETTER MU}m": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "dm": 1e8,
    "m": 1e9,
    "in": 2.54e7,
    '"': 2.54e7,
}
# what programs write where they know no unit
NO_UNIT = ("", "pixel", "px", "voxel", "vx", "none", "null", "unknown", "undefined", "arbitrary")
NAMED = "angstrom, nanometer, micrometer, millimeter, and their symbols (nm, um, µm, ...)"


def nanometres(unit: object) -> float | None:
    """How many nanometres a unit of length has.

    >>> nanometres("micrometer"), nanometres("Microns"), nanometres(" nm "), nanometres("pixel")
    (1000.0, 1000.0, 1.0, None)

    Args:
        unit: its name as a file has it.

    Returns:
        None where there is no unit: nothing, blank, "pixel" and the like.

    Raises:
        ValueError: not a unit of length that is used for voxels.
    """
    if unit is None:
        return None
    if not isinstance(unit, str):
        raise ValueError(f"expected a unit of length, such as nanometer, found {_short(unit)}")
    # one code point for each of the two mus and the two A with a ring
    name = unicodedata.normalize("NFKC", unit.strip("\0 \t\r\n"))
    if name in SYMBOLS:
        return SYMBOLS[name]
    word = name.casefold()
    singular = word.removesuffix("s") or word
    if word in NO_UNIT or singular in NO_UNIT:
        return None
    meant = singular.replace("metre", "meter")
    if meant not in WORDS:
        raise ValueError(f"unknown unit of length {_short(unit)}; known are {NAMED}")
    return WORDS[meant]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
