"""What `fit` returns, and when a run counts as diverged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..alternation import Phase
from ..outcome import Result, Status
from ..runs import EpochRecord, History

GROWTH = 5  # times the loss before training, above which a run has diverged


@dataclass(frozen=True, kw_only=True)
class FitResult(Result):
    """What `fit` returns: always this, whatever happened.

    `model` is the module that was given, trained in place; nothing wraps it. `detail` says in which epoch
    and step a run diverged or was stopped. `notes` say where masks are kept. `average` is a copy of the model
    with the average of its weights, of which `loss_average` and `error_average` tell, where
    `Settings.ema_decay` asked for one.
    """

    ADVISES: ClassVar[Mapping[Status, str]] = {
        Status.FINISHED: "All epochs were run.",
        Status.TARGET: "The target error was reached; the remaining epochs were not run.",
        Status.DIVERGED: (
            "The loss exploded or became undefined. The weights are those of the last good epoch. Lower "
            "the learning rate (lr), limit the gradient (max_grad_norm=5), or, where supports were held, "
            "shorten the weight stroke (gap) or tighten its drift limit (drift)."
        ),
    }

    model: nn.Module
    history: History
    average: nn.Module | None = None

    @property
    def error(self) -> float:
        """Live test error of the last epoch, in %; NaN when there was none."""
        return self.history[-1].error if len(self.history) else float("nan")


def divergence(record: EpochRecord, before: History, first: float) -> str | None:
    """Say in what way an epoch shows that its run has diverged; None if in none.

    `before` are the epochs before it, `first` the loss before training, or at chance. What counts is
    the loss that was descended on: the live loss is measured in evaluation mode, where batch norm's
    running statistics may lag behind weights that move fast, so that it is no sign by itself. Under held
    masks it is the only one, if it has grown since the round began.
    """
    if not math.isfinite(record.loss_live):
        return "the live loss is undefined"
    if record.loss_train > GROWTH * first:
        return (
            f"the loss is {record.loss_train:.3g}, more than {GROWTH} × {first:.3g}, which it was before "
            "training or is at chance"
        )
    if record.phase == Phase.HELD:
        begun = [one.loss_live for one in before if one.round != record.round]
        limit = max([first, *begun[-1:]])
        if record.loss_live > GROWTH * limit:
            return (
                f"the live loss is {record.loss_live:.3g}, more than {GROWTH} × {limit:.3g}, which it "
                "was when the masks were found, or before training, or is at chance"
            )
    return None
