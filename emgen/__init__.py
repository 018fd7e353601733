"""emgen: restoration of volume electron microscopy, and how far the result can be trusted.

The four modes on arrays in memory, which load torch when the first of them is asked for:

    from emgen import isotropic
    restored = isotropic(volume, factor=8)

See `emgen.arrays`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emgen.arrays import deblur, denoise, isotropic, superres

__version__ = "0.2.0"
__all__ = ["__version__", "deblur", "denoise", "isotropic", "superres"]

ON_ARRAYS = frozenset({"deblur", "denoise", "isotropic", "superres"})


def __getattr__(name: str) -> Any:
    """The function of `emgen.arrays` with this name, imported when it is asked for (PEP 562)."""
    if name in ON_ARRAYS:
        from emgen import arrays

        return getattr(arrays, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
