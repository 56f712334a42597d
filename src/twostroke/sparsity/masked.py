"""Training under fixed masks of weights, as an alternation for `fit`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..alternation import Alternation, Alternator, Given
from ..errors import SettingsError
from .layers import Masks, apply_masks, weighted_layers


@dataclass(frozen=True, kw_only=True)
class Masked(Alternation):
    """Hold `masks` of weights: they are applied at the start and again after every optimiser step.

    What the optimiser remembers of a pruned weight (momentum, moments) is set to zero with it, or
    momentum would revive the weight in the next step.
    """

    masks: Masks

    def machine(self, given: Given) -> Alternator:
        """See `alternation.Alternation.start`."""
        in_one_process(given.processes.count)
        return _Masked(given, self.masks)


def in_one_process(count: int) -> None:
    """Raise `SettingsError` for a run of several processes."""
    if count > 1:
        raise SettingsError(
            f"dense-sparse-dense training runs in one process, and this run has {count}: start it without "
            "torchrun or accelerate launch"
        )


class _Masked(Alternator):
    pausable = True

    def __init__(self, given: Given, masks: Masks) -> None:
        super().__init__(given)
        apply_masks(self.model, masks)
        layers = weighted_layers(self.model)
        self._pairs: list[tuple[nn.Parameter, Tensor]] = []
        for path, keep in masks.items():
            weight = layers[path].weight
            assert isinstance(weight, nn.Parameter)
            self._pairs.append((weight, ~keep.to(weight.device)))

    def after_step(self) -> None:
        """Prune again."""
        with torch.no_grad():
            for weight, gone in self._pairs:
                weight.masked_fill_(gone, 0)
                memory = self.optimizer.state.get(weight, {}) if self.optimizer else {}
                for value in memory.values():
                    if isinstance(value, Tensor) and value.shape == weight.shape:
                        value.masked_fill_(gone, 0)
