"""Supports as something to study.

`recording` of a batch or a data set, files for NumPy · `distances` Hamming distances, neighbours, patterns,
by the `kernels` of popcount · `units` what single units do · `line` and `plane` the regions that a line or
a triangle crosses · `walls` the nearest wall of a region, and how steep a net is in it · `probe` supports over
training, and those of two runs side by side · `pictures` of all that.
"""

from .distances import Neighbours, Patterns, hamming, neighbours, unique
from .recording import export, record
from .units import Telling, always_on, by_class, coactivation, counts, dead, entropy, telling

__all__ = [
    "Neighbours",
    "Patterns",
    "Telling",
    "always_on",
    "by_class",
    "coactivation",
    "counts",
    "dead",
    "entropy",
    "export",
    "hamming",
    "neighbours",
    "record",
    "telling",
    "unique",
]
