"""What a step of training descends on: the loss of the outputs, or more than that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from .evaluate import Loss


@dataclass(frozen=True)
class Batch:
    """One step's examples, or the part of them that this process has.

    x: (batch, channels, height, width), as the model meets them; y: (batch,) labels.
    indices: (batch,) which examples of the training source they are, in the view `view`.
    progress: share of the run that is done, 0 to 1.
    """

    x: Tensor
    y: Tensor
    indices: Tensor
    view: int
    progress: float


class Objective:
    """The loss of the model's outputs. Write a subclass to add terms.

    modules: trained beside the model and kept in checkpoints, but no part of it: connectors, for example, and
        a loss that has weights of its own. Processes average their gradients, as they do the model's.
    first_extra: how much the terms may add to the loss before training. A run has diverged where its
        loss exceeds a multiple of what it began with.
    """

    first_extra = 0.0

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        own = isinstance(loss, nn.Module) and (*loss.parameters(), *loss.buffers())
        self.modules: Mapping[str, nn.Module] = {"loss": loss} if own else {}  # type: ignore[dict-item]

    def __call__(self, net: nn.Module, batch: Batch) -> Tensor:
        """Mean over the batch, a scalar with gradient; runs `net` forward once.

        Where a batch is run in parts, each part is weighed by its examples.
        """
        return self.loss(net(batch.x), batch.y)
