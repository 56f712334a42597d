"""Experiments of theory: §3.3 of the paper, put to the test.

`isometry` does any operator satisfy eq. 29 · `recovery` are weights found again when their support is given:
students with their teachers, and by `rebuilding` whole networks from their masks alone · `digits` the real data
of both · `findings` what an experiment hands over, and its files.
"""

from .findings import Findings, Tell
from .isometry import isometry
from .recovery import SCALES, Scale, recovery

__all__ = ["SCALES", "Findings", "Scale", "Tell", "isometry", "recovery"]
