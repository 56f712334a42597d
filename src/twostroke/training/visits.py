"""Which examples an epoch visits: all of them, or settled ones less often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..alternation import Processes
from ..errors import SettingsError
from .order import Order, epoch_order


@dataclass(frozen=True, kw_only=True)
class Selective:
    """Visit settled examples with probability `1 - drop`, weighted by `1 / (1 - drop)`.

    So the expected gradient is that of the whole set. An example is settled when its score is below
    the mean: by "loss" its loss when it was last visited, by "drift" the share of its units that
    changed sides at the last support stroke (of instance-wise alternation with sweeps), by "both"
    when both scores say so. Scores cost nothing: they come from the training passes and the sweeps.
    The last `full` share of the epochs visits everything, at weight 1, and so does the first epoch.
    The learning rate follows the progress through the epochs, not the number of steps.

    After InfoBatch (Qin et al., ICLR 2024). Raises `SettingsError` for shares out of range.
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
        if kind is None or whole or epoch >= self.epochs - round(kind.full * self.epochs):
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
