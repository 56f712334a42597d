"""Twostroke trains convolutional networks in two alternating strokes.

The support stroke finds which units of every layer are on for every training example; the weight
stroke holds that support fixed, so that the network is linear, and descends on the weights.

    support = twostroke.record(model, x)         # support stroke on a batch
    with twostroke.hold(model, support):         # weight stroke: same module, same parameters
        loss_fn(model(x), y).backward()

    result = twostroke.fit(model, data, alternation=twostroke.InstanceWise())

The support may also be given by another, trained network:

    guide = twostroke.Guide.record(teacher, images)      # one bit a unit, and the teacher's outputs
    result = twostroke.distill(student, guide, images)   # a fresh or smaller network, without labels

`theory`, `solvers`, `sparsity`, `study`, `store` and `runs` are rooms of their own:
`twostroke.theory.linear_map`.
"""

from . import data, errors, models, solvers, sparsity, study, theory
from ._version import __version__
from .alternation import BatchWise, InstanceWise, Plateau
from .guidance import Guide, distill, guided, pair
from .outcome import Status
from .runs import RunFolder
from .study import record
from .support import (
    BatchEnergy,
    Energy,
    HardThreshold,
    MajorityVote,
    PositiveThreshold,
    Site,
    Support,
    check,
    compile_held,
    hold,
    recording,
    sites,
)
from .training import FAST, Listener, Settings, evaluate, fit

__all__ = [
    "FAST",
    "BatchEnergy",
    "BatchWise",
    "Energy",
    "Guide",
    "HardThreshold",
    "InstanceWise",
    "Listener",
    "MajorityVote",
    "Plateau",
    "PositiveThreshold",
    "RunFolder",
    "Settings",
    "Site",
    "Status",
    "Support",
    "__version__",
    "check",
    "compile_held",
    "data",
    "distill",
    "errors",
    "evaluate",
    "fit",
    "guided",
    "hold",
    "models",
    "pair",
    "record",
    "recording",
    "sites",
    "solvers",
    "sparsity",
    "study",
    "theory",
]
