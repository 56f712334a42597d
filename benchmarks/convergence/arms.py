"""The arms of the convergence benchmark: what is compared, and the grid that each one is tuned over."""

from __future__ import annotations

from dataclasses import dataclass, field

import twostroke as ts
from twostroke.alternation import Alternation


@dataclass(frozen=True)
class Arm:
    """One way to train. `lengths` are epochs relative to the reference's."""

    optimizer: str = "sgd"
    alternation: Alternation = field(default_factory=ts.Live)
    visits: ts.Selective | None = None
    lrs: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    lengths: tuple[float, ...] = (1.0,)
    tuned_as: str | None = None  # take learning rate and length from this arm instead of tuning


MUON_LRS = (0.01, 0.02, 0.05, 0.1)
LATE = {"gap": 1, "drift": 0.05}

ARMS = {
    "sgd": Arm(),
    "sgd short": Arm(lengths=(1 / 3, 5 / 12)),
    "sgd + instance-wise": Arm(alternation=ts.InstanceWise(warmup=4, **LATE), tuned_as="sgd"),
    "sgd + batch-wise": Arm(alternation=ts.BatchWise(warmup=1), tuned_as="sgd"),
    "sgd + slow support": Arm(alternation=ts.SlowSupport(), tuned_as="sgd"),
    "muon": Arm("muon", lrs=MUON_LRS, lengths=(1 / 3, 5 / 12)),
    "muon + instance-wise": Arm("muon", ts.InstanceWise(warmup=2, **LATE), tuned_as="muon"),
    "muon + batch-wise": Arm("muon", ts.BatchWise(warmup=1), tuned_as="muon"),
    "muon + slow support": Arm("muon", ts.SlowSupport(), tuned_as="muon"),
}
