"""Which examples an epoch visits: all of them, or settled ones less often."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..alternation import Alternation, BatchWise, InstanceWise, Live, Processes, SlowSupport
from ..errors import SettingsError
from .order import Order, epoch_order


@dataclass(frozen=True, kw_only=True)
class Selective:
    """Visit settled examples with probability `1 - drop`, weighted by `1 / (1 - drop)`.

    So the gradients of an epoch add up, in expectation, to those of the whole set; in fewer steps,
    each of them larger. To Muon, which does not see the size of a gradient, there are just fewer. An
    example is settled when its score is below the mean: by "loss" its loss when it was last visited,
    by "drift" the share of its units that changed sides at the last support stroke (of instance-wise
    alternation with sweeps), by "both" when both scores say so. Scores cost nothing: they come from
    the training passes and the sweeps. The last `full` share of the epochs, rounded up, visits
    everything, at weight 1, and so do the first epoch and every epoch that records masks. The
    learning rate follows the progress through the epochs, not the number of steps. What is left of
    an `order="balanced"` is balanced no longer.

    After InfoBatch (Qin et al., ICLR 2024). Raises `SettingsError` for shares out of range; `fit`
    does where the alternation gives no drift to go by, or records masks in every epoch.
    """

    drop: float = 0.5
    full: float = 0.15
    by: Literal["loss", "drift", "both"] = "loss"

    def __post_init__(self) -> None:
        if not 0 < self.drop < 1:
            raise SettingsError(
                f"the share of settled examples to leave out (drop, --visits) lies between 0 and 1, which "
                f"{self.drop} does not"
            )
        if not 0 <= self.full <= 1:
            raise SettingsError(f"full is a share of the epochs in [0, 1], not {self.full}")
        if self.by not in ("loss", "drift", "both"):
            raise SettingsError(f"by is 'loss', 'drift' or 'both', not {self.by!r}")


def refuse_visits(kind: Selective | None, alternation: Alternation) -> None:
    """Raise `SettingsError` where visits could never be selective; kinds of a user's own are trusted."""
    if kind is None:
        return
    refresh = alternation.refresh if isinstance(alternation, InstanceWise) else None
    if refresh == "running":
        raise SettingsError(
            "refresh='running' renews the masks of every example in every epoch: refresh='sweep' or "
            "'online' with selective visits, or visits=None"
        )
    without = isinstance(alternation, Live | BatchWise | SlowSupport) or refresh == "online"
    if kind.by != "loss" and without:
        raise SettingsError(
            f"Selective(by={kind.by!r}) goes by the drift of each example between two sweeps: "
            "alternation=InstanceWise(refresh='sweep') with it, or by='loss'"
        )


class Visits:
    """Draws each epoch's order and weights, and keeps the scores."""

    def __init__(
        self, kind: Selective | None, examples: int, epochs: int, order: Order = "shuffle"
    ) -> None:
        self.kind = kind
        self._order = order
        self._fresh = torch.zeros(examples, dtype=torch.bool)  # seen here since `share`
        self.examples = examples
        self.epochs = epochs
        # NaN until an example has been visited, and then it counts as unsettled
        self.losses = torch.full((examples,), torch.nan)
        self.weights: Tensor | None = None  # (examples,) of the epoch under way, None for all 1

    def order(
        self,
        epoch: int,
        generator: torch.Generator,
        drift: Tensor | None,  # (examples,) share of units that changed sides, or None
        *,
        whole: bool = False,  # this epoch must see everything
    ) -> Tensor:  # (visited,) int64
        """Indices to visit in an epoch, shuffled; sets `weights`."""
        self.weights = None
        order = epoch_order(self._order, self.examples, generator)
        kind = self.kind
        if kind is None or whole or epoch >= self.epochs - _rounded_up(kind.full * self.epochs):
            return order
        settled = self._settled(kind, drift)
        if not settled.any():
            return order
        dropped = settled & (torch.rand(self.examples, generator=generator) < kind.drop)
        self.weights = torch.where(settled, 1 / (1 - kind.drop), 1.0)
        return order[~dropped[order]]

    def _settled(self, kind: Selective, drift: Tensor | None) -> Tensor:
        by_loss = self.losses < self.losses.nanmean()
        if kind.by == "loss":
            return by_loss
        if drift is None:  # no two support strokes yet
            return torch.zeros(self.examples, dtype=torch.bool)
        by_drift = drift < drift.mean()
        return by_drift if kind.by == "drift" else by_drift & by_loss

    def weight(self, order: Tensor) -> float:
        """Sum of the weights of what is visited, which a mean over the epoch is to be divided by."""
        return float(len(order) if self.weights is None else self.weights[order].sum())

    def seen(self, indices: Tensor, losses: Tensor) -> None:
        """Keep the losses, (batch,), of the examples of a step."""
        self.losses[indices] = losses.detach().float().cpu()
        self._fresh[indices] = True

    def share(self, processes: Processes) -> None:
        """Tell the other processes what was seen in this one since the last call, and hear of theirs."""
        if self.kind is None or processes.count == 1:
            return
        seen = torch.stack([self._fresh.float(), self.losses.where(self._fresh, 0.0)])
        fresh, losses = processes.sum(seen)
        self.losses = torch.where(fresh > 0, losses, self.losses)
        self._fresh[:] = False


def _rounded_up(epochs: float) -> int:
    return math.ceil(epochs - 1e-9)  # 0.07 * 100 is a hair above 7
