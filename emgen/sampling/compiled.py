"""Functions of tensors as programs for a GPU (`torch.compile`), with the function itself to fall back on.

Run as it is written, a function starts a kernel for every operation, and each reads and writes all of its tensors.
Compiled, most operations become one kernel: the networks take a third of the time, the noise a seventieth. Compiling
takes 10 to 20 s. torch keeps the programs on disk, in `$TORCHINDUCTOR_CACHE_DIR` or the temporary folder, so that the
next process there needs but a few seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LOG = logging.getLogger("emgen")


class Compiled:
    """A function of tensors, compiled for each shape at its first call.

    Where compiling fails (no C compiler, a GPU too old, a function that it does not understand) the log says why, and
    the function runs as it is written from then on. Results differ by rounding only.

    Attributes:
        function: of positional arguments.
        name: of the function, for the log.
        dynamic: whether one program serves all shapes; else a program for the first shape and one for all that follow.
    """

    def __init__(
        self, function: Callable[..., Tensor], name: str, *, dynamic: bool | None = None
    ) -> None:
        self.function, self.name = function, name
        self.call: Callable[..., Tensor] = torch.compile(function, dynamic=dynamic)

    def __call__(self, *arguments: Any) -> Tensor:
        if self.call is self.function:
            return self.function(*arguments)
        try:
            return self.call(*arguments)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # compilers fail in ways of their own; what the function itself raises it raises again
            self._fall_back(error)
            return self.function(*arguments)

    def _fall_back(self, error: Exception) -> None:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        LOG.warning(
            "%s could not be compiled and runs as it is, which is slower (%s: %s)",
            self.name,
            type(error).__name__,
            reason,
        )
        self.call = self.function
