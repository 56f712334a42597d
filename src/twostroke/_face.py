"""The public names, which the package shows as its own."""

from . import data, errors, models, solvers, sparsity, study, theory
from .alternation import BatchWise, InstanceWise, Plateau
from .guidance import Guide, distill, guided, pair
from .outcome import Status
from .runs import RunFolder, load
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
    "check",
    "compile_held",
    "data",
    "distill",
    "errors",
    "evaluate",
    "fit",
    "guided",
    "hold",
    "load",
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
