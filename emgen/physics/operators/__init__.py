"""y = A x + noise: how what was measured came about from what is wanted."""

from emgen.physics.operators.blur import Blur
from emgen.physics.operators.downsample import Downsample
from emgen.physics.operators.identity import Identity
from emgen.physics.operators.masked import Masked, without
from emgen.physics.operators.operator import Operator
from emgen.physics.operators.thick_sections import Gaussian, Mean, Slice

__all__ = [
    "Blur",
    "Downsample",
    "Gaussian",
    "Identity",
    "Masked",
    "Mean",
    "Operator",
    "Slice",
    "without",
]
