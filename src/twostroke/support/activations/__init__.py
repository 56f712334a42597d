"""Kinds of site: which functions switch, on which piece each unit is, and how it is held.

One kind a file: `relu`, `threshold`, `leaky_relu`, `prelu`, `clamp`, `max_pool`. Each file registers the
functions that its kind is called by. `base` has what all kinds share, `held` computes `m ∘ q` from
packed bits, and `registry` maps functions to kinds; `docs/extending.md` shows how to add a kind.
"""

from . import clamp, leaky_relu, max_pool, prelu, relu, threshold  # each registers its functions
from .base import Activation
from .held import select
from .registry import FUNCTIONS, Reader, read, register

__all__ = [
    "FUNCTIONS",
    "Activation",
    "Reader",
    "clamp",
    "leaky_relu",
    "max_pool",
    "prelu",
    "read",
    "register",
    "relu",
    "select",
    "threshold",
]
