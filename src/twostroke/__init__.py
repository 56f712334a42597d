"""Twostroke trains convolutional networks in two alternating strokes.

The support stroke finds which units of every layer are on for every training example; the weight
stroke holds that support fixed, so that the network is linear, and descends on the weights.

    support = twostroke.record(model, x)         # support stroke on a batch
    with twostroke.hold(model, support):         # weight stroke: same module, same parameters
        loss_fn(model(x), y).backward()

    result = twostroke.fit(model, data, alternation=twostroke.InstanceWise())
"""

from . import data, errors, models, solvers, sparsity, theory
from ._version import __version__
from .alternation import (
    Alternator,
    BatchWise,
    DriftCertificate,
    InstanceWise,
    Live,
    Phase,
    Plateau,
    SlowSupport,
)
from .guidance import Guidance, Guide, Guided, Pairs, Told, distill, guided, pair
from .sparsity import dense_sparse_dense
from .support import (
    BatchEnergy,
    CompiledHold,
    Energy,
    HardThreshold,
    Held,
    MajorityVote,
    PositiveThreshold,
    Recorder,
    Rule,
    Share,
    Site,
    Support,
    compile_held,
    hard_threshold,
    hold,
    record,
    recording,
    sites,
    use_hard_threshold,
)
from .theory import linear_map
from .training import (
    MASK_AT_TEST,
    EpochRecord,
    Evaluation,
    FitResult,
    History,
    Progress,
    Selective,
    Settings,
    Settled,
    Status,
    evaluate,
    fit,
)

__all__ = [
    "MASK_AT_TEST",
    "Alternator",
    "BatchEnergy",
    "BatchWise",
    "CompiledHold",
    "DriftCertificate",
    "Energy",
    "EpochRecord",
    "Evaluation",
    "FitResult",
    "Guidance",
    "Guide",
    "Guided",
    "HardThreshold",
    "Held",
    "History",
    "InstanceWise",
    "Live",
    "MajorityVote",
    "Pairs",
    "Phase",
    "Plateau",
    "PositiveThreshold",
    "Progress",
    "Recorder",
    "Rule",
    "Selective",
    "Settings",
    "Settled",
    "Share",
    "Site",
    "SlowSupport",
    "Status",
    "Support",
    "Told",
    "__version__",
    "compile_held",
    "data",
    "dense_sparse_dense",
    "distill",
    "errors",
    "evaluate",
    "fit",
    "guided",
    "hard_threshold",
    "hold",
    "linear_map",
    "models",
    "pair",
    "record",
    "recording",
    "sites",
    "solvers",
    "sparsity",
    "theory",
    "use_hard_threshold",
]
