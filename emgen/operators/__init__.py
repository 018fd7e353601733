"""y = A x + noise: how what was measured came about from what is wanted."""

from emgen.operators.blur import Blur, gaussian_kernel
from emgen.operators.downsample import Downsample
from emgen.operators.identity import Identity
from emgen.operators.operator import Operator
from emgen.operators.sections import Gaussian, Mean, Slice

__all__ = [
    "Blur",
    "Downsample",
    "Gaussian",
    "Identity",
    "Mean",
    "Operator",
    "Slice",
    "gaussian_kernel",
]
