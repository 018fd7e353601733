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
        dynamic: whether one program serves all shapes; else there is one for the first shape and one for all that follow.
        failed: whether it runs as it is written.
    """

    def __init__(
        self, function: Callable[..., Tensor], name: str, *, dynamic: bool | None = None
    ) -> None:
        self.function, self.name, self.dynamic = function, name, dynamic
        self.program: Callable[..., Tensor] | None = None
        self.failed = False

    def __call__(self, *arguments: Any) -> Tensor:
        if self.failed:
            return self.function(*arguments)
        try:
            if self.program is None:
                self.program = torch.compile(self.function, dynamic=self.dynamic)
            return self.program(*arguments)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # compilers fail in ways of their own; a fault of the function itself shows again below
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
        self.failed = True
