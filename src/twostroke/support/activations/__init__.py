"""Kinds of site: which functions switch, on which piece each unit is, and how it is held.

One kind a file: `relu`, `threshold`, `leaky_relu`, `prelu`, `clamp`, `max_pool`. Each file registers the
functions that its kind is called by. `base` has what all kinds share, `held` computes `m ∘ q` from
packed bits, and `registry` maps functions to kinds; `docs/extending.md` shows how to add a kind.
"""

from .base import Activation
from .clamp import Clamp
from .held import select
from .leaky_relu import LeakyRelu
from .max_pool import MaxPool
from .prelu import PRelu
from .registry import FUNCTIONS, Reader, read, register
from .relu import Relu
from .threshold import Threshold

__all__ = [
    "FUNCTIONS",
    "Activation",
    "Clamp",
    "LeakyRelu",
    "MaxPool",
    "PRelu",
    "Reader",
    "Relu",
    "Threshold",
    "read",
    "register",
    "select",
]
