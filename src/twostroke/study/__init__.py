"""Supports as something to study.

`recording` of a batch or a data set, files for NumPy · `distances` Hamming distances, neighbours, patterns,
by the `kernels` of popcount · `units` what single units do · `lines` and `planes` the regions that a line or
a triangle crosses · `walls` the nearest wall of a region, and how steep a net is in it · `probe` supports over
training, and those of two runs side by side · `pictures` of all that.
"""

from .distances import Neighbours, Patterns, hamming, neighbours, unique
from .lines import Line, Switch, line
from .planes import Plane, plane
from .probe import Matched, Probe, match
from .recording import export, record
from .units import Telling, always_on, by_class, coactivation, counts, dead, entropy, telling
from .walls import Wall, local_lipschitz, nearest_wall

__all__ = [
    "Line",
    "Matched",
    "Neighbours",
    "Patterns",
    "Plane",
    "Probe",
    "Switch",
    "Telling",
    "Wall",
    "always_on",
    "by_class",
    "coactivation",
    "counts",
    "dead",
    "entropy",
    "export",
    "hamming",
    "line",
    "local_lipschitz",
    "match",
    "nearest_wall",
    "neighbours",
    "plane",
    "record",
    "telling",
    "unique",
]
