"""The arms of the convergence benchmark: what is compared, and the grid that each one is tuned over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import twostroke as ts
from twostroke.alternation import Alternation, Live


@dataclass(frozen=True)
class Arm:
    """One way to train. `length` is epochs relative to the reference's, and is not tuned: which lengths
    suffice is read off arms that differ in it alone.

    Learning rate and weight decay are tuned together, then the share of the run in which the learning
    rate rises. An arm that takes the choices of another (`tuned_as`) may want others: what that hides
    is seen by the arms "tuned", which have their own.
    """

    optimizer: str = "sgd"
    alternation: Callable[[int], Alternation] = lambda epochs: Live()
    lrs: tuple[float, ...] = (0.1, 0.2)
    decays: tuple[float, ...] = (5e-4, 2e-3, 5e-3)
    warms: tuple[float, ...] = (0.25, 0.1)
    length: float | None = None  # 1, or that of `tuned_as`
    tuned_as: str | None = None  # take the choices of this arm instead of tuning
    smoothing: float = 0.0  # of labels, in the loss that is trained on


SHORT = 5 / 12
MUON_LRS = (0.02, 0.05)
MUON_DECAYS = (0.03, 0.1, 0.3)  # decoupled: a share of the weights, times the learning rate, a step
OWN = {"lrs": (0.05,), "decays": (0.1, 0.3), "warms": (0.25,)}  # a small grid, which grows


def late(epochs: int) -> Alternation:
    """Instance-wise alternation in the second half of a run, when the learning rate falls."""
    return ts.InstanceWise(warmup=epochs // 2, gap=1, drift=None)


def drift_limited(epochs: int) -> Alternation:
    """Weight strokes that lengthen by themselves as the learning rate falls."""
    return ts.InstanceWise(warmup=epochs // 2, gap=epochs, drift=0.04)


def batch(epochs: int) -> Alternation:
    return ts.BatchWise(warmup=1)


ARMS = {
    "sgd": Arm(),
    "sgd at 0.83": Arm(length=5 / 6, tuned_as="sgd"),
    "sgd at 0.67": Arm(length=2 / 3, tuned_as="sgd"),
    "sgd short": Arm(length=SHORT),
    "sgd + instance-wise": Arm(alternation=late, tuned_as="sgd"),
    "sgd + batch-wise": Arm(alternation=batch, tuned_as="sgd"),
    "muon": Arm("muon", lrs=MUON_LRS, decays=MUON_DECAYS, length=SHORT),
    "muon shorter": Arm("muon", length=1 / 3, tuned_as="muon"),
    "muon + instance-wise": Arm("muon", late, tuned_as="muon"),
    "muon + batch-wise": Arm("muon", batch, tuned_as="muon"),
    "muon at 0.57": Arm("muon", length=4 / 7, tuned_as="muon"),
    "muon at 0.71": Arm("muon", length=5 / 7, tuned_as="muon"),
    "sgd + smoothing": Arm(tuned_as="sgd", smoothing=0.2),
    "muon + smoothing": Arm("muon", tuned_as="muon", smoothing=0.2),
    "muon at 0.57 + smoothing": Arm("muon", length=4 / 7, tuned_as="muon", smoothing=0.2),
    "muon long": Arm("muon", length=1.0, tuned_as="muon"),
    "muon long + instance-wise": Arm("muon", late, length=1.0, tuned_as="muon"),
    "muon long + drift-limited": Arm("muon", drift_limited, length=1.0, tuned_as="muon"),
    "muon long + batch-wise": Arm("muon", batch, length=1.0, tuned_as="muon"),
    "muon long tuned": Arm("muon", length=1.0, **OWN),
    "muon long tuned + instance-wise": Arm("muon", late, length=1.0, **OWN),
}


def base_of(name: str) -> str:
    """The arm that this one adds something to; itself where it adds nothing."""
    return name.split(" + ")[0]


def needs(name: str) -> set[str]:
    """The other arms that this one is compared with, or takes its choices from."""
    return {"sgd", base_of(name), ARMS[name].tuned_as or name} - {name}
