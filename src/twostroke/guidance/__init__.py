"""Supports that are given: a network learns from what another one switches on.

`guide` what a teacher says of a set of images: one bit a unit and its outputs, `images` and `teacher`
what it belongs to, `told` one batch of it, `above` its bits · `loss` guidance of a batch in your own loop;
`pull` the term of one site, fused on a CPU (`kernels`) and a GPU (`gpu`) · `pairs` which site learns from
which, and connectors · `objective` guidance, distillation and labels in one loss · `lesson` images as a
student meets them · `driver` `distill`, one call for all of it · `students` smaller networks made from a
teacher.

A file of supports is as confidential as the weights of the teacher: they can be rebuilt from it.
"""

from . import students
from .driver import distill
from .guide import Guide
from .loss import Guidance, guided
from .objective import Guided
from .pairs import Pair, Pairs, pair
from .told import Told

__all__ = [
    "Guidance",
    "Guide",
    "Guided",
    "Pair",
    "Pairs",
    "Told",
    "distill",
    "guided",
    "pair",
    "students",
]
