"""Instance-wise alternation: one mask for each example, held for epochs (I-alternation, §4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import SettingsError
from ..store import Kind, MakeStore, check_kind
from ..support import Rule
from .alternator import Alternation, Alternator, Given, check_warmup
from .plateau import Plateau
from .rounds import InstanceWiseAlternator


@dataclass(frozen=True, kw_only=True)
class InstanceWise(Alternation):
    """One mask for each example, held for whole epochs (the paper's I-alternation, §4.1)."""

    name = "instance-wise alternation"

    warmup: int | Plateau = 2
    """Epochs of ordinary training first, or a plateau to wait for; masks of a random network mean nothing."""
    gap: int = 2
    """A weight stroke's length in epochs at most."""
    plateau: Plateau | None = None
    """End a weight stroke also when its loss no longer falls (the paper's criterion)."""
    drift: float | None = 0.08
    """End a weight stroke also when this share of the units of `probe` examples has changed sides. The rest of
    the epoch then runs live. None holds on: at a large learning rate, held and live network then part."""
    probe: int = 256
    """Examples on which the drift is measured."""
    checks: int = 4
    """How often an epoch measures the drift."""
    refresh: Literal["sweep", "online"] = "sweep"
    """sweep visits every example in a pass without gradient; online records while an ordinary epoch runs, which
    costs no pass but gives masks up to an epoch old."""
    statistics: int = 2048
    """Before a sweep, estimate batch norm's running statistics again from so many training examples (0: no),
    in modules that have seen a batch since the last sweep. A sweep records in evaluation mode, and after few or
    large steps running statistics are those of earlier weights."""
    rule: Rule | None = None
    """Closed form of the mask; left out, what the activation itself does."""
    gated: bool = False
    """Hold `m ∘ ReLU(q)` instead of `m ∘ q`."""
    penalty: float = 0.0
    """Weight of the term that keeps pre-activations on their held side; 0: none."""
    momentum: Literal["keep", "reset"] = "keep"
    """What becomes of the optimiser's state at a support stroke."""
    pooling: bool = False
    """Hold the argmax of max pooling too."""
    store: Kind | MakeStore = "auto"
    """Where the masks live: device (beside the model), host (its memory), or file; auto takes the first where
    they fit well, and says which.

    Or a function that makes a `Store` of your own for a `Place`."""
    store_path: Path | None = None
    """Folder for the file, should it come to one; one for each run, in which each of several processes has a
    folder for its share. Left out, the run's own folder.

    In `fit` without a folder it is a temporary one."""

    def __post_init__(self) -> None:
        check_warmup(self.warmup)
        check_kind(self.store)
        if self.momentum not in ("keep", "reset"):
            raise SettingsError(
                f"momentum is 'keep' or 'reset' at a support stroke, not {self.momentum!r}"
            )
        if self.gap < 1:
            raise SettingsError(f"gap is a number of epochs, 1 or more, not {self.gap}")
        if self.drift is not None and not 0 < self.drift <= 1:
            raise SettingsError(
                f"drift is a share of units, above 0 and up to 1, or None for no limit, not {self.drift}"
            )
        if self.probe < 1 or self.checks < 1:
            raise SettingsError(f"probe and checks are 1 or more, not {self.probe}, {self.checks}")
        if self.refresh not in ("sweep", "online"):
            raise SettingsError(f"refresh is 'sweep' or 'online', not {self.refresh!r}")
        if self.refresh == "online" and self.rule is not None:
            raise SettingsError(
                "online support strokes record what the activations do while they train: with a rule of "
                "your own use refresh='sweep'"
            )
        if self.statistics < 0:
            raise SettingsError(f"statistics is a number of examples, or 0, not {self.statistics}")
        if not self.penalty >= 0:
            raise SettingsError(f"penalty is a weight, 0 or more, not {self.penalty}")
        if getattr(self.rule, "shared", False):
            raise SettingsError(
                f"{type(self.rule).__name__} gives one mask to a whole batch: use BatchWise with it"
            )

    def machine(self, given: Given) -> Alternator:
        """See `Alternation.start`."""
        if self.momentum == "reset" and given.optimizer is None:
            raise SettingsError("momentum='reset' needs the optimiser: start(..., optimizer=...)")
        return InstanceWiseAlternator(given, self)
