"""y = A x + noise: how what was measured came about from what is wanted."""

from emgen.operators.blur import Blur
from emgen.operators.downsample import Downsample
from emgen.operators.identity import Identity
from emgen.operators.masked import Masked
from emgen.operators.operator import Operator
from emgen.operators.sections import Gaussian, Mean, Slice

__all__ = [
    "Blur",
    "Downsample",
    "Gaussian",
    "Identity",
    "Masked",
    "Mean",
    "Operator",
    "Slice",
]
