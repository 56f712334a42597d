"""Training under fixed masks of weights, as an alternation for `fit`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..alternation import ONE, Alternator, Processes
from ..data import ExampleSource
from ..errors import SettingsError
from .layers import Masks, apply_masks, weighted_layers


@dataclass(frozen=True, kw_only=True)
class Masked:
    """Hold `masks` of weights: they are applied at the start and again after every optimiser step.

    What the optimiser remembers of a pruned weight (momentum, moments) is set to zero with it, or
    momentum would revive the weight in the next step.
    """

    masks: Masks

    def start(
        self,
        model: nn.Module,
        source: ExampleSource,
        *,
        seed: int = 0,
        optimizer: Optimizer | None = None,
        processes: Processes = ONE,
    ) -> Alternator:
        """Begin; see `alternation.Alternation`."""
        in_one_process(processes)
        return _Masked(model, source, seed, optimizer, self.masks)


def in_one_process(processes: Processes) -> None:
    """Raise `SettingsError` for a run of several processes."""
    if processes.count > 1:
        raise SettingsError(
            f"dense-sparse-dense training runs in one process, and this run has {processes.count}: start "
            "it without torchrun or accelerate launch"
        )


class _Masked(Alternator):
    def __init__(
        self,
        model: nn.Module,
        source: ExampleSource,
        seed: int,
        optimizer: Optimizer | None,
        masks: Masks,
    ) -> None:
        super().__init__(model, source, seed, optimizer)
        apply_masks(model, masks)
        layers = weighted_layers(model)
        self._pairs: list[tuple[nn.Parameter, Tensor]] = []
        for path, keep in masks.items():
            weight = layers[path].weight
            assert isinstance(weight, nn.Parameter)
            self._pairs.append((weight, ~keep.to(weight.device)))

    @contextmanager
    def step(self, indices: Tensor, progress: float = 0.0) -> Iterator[None]:
        """Nothing is done to the forward pass."""
        yield

    def after_step(self) -> None:
        """Prune again."""
        with torch.no_grad():
            for weight, gone in self._pairs:
                weight.masked_fill_(gone, 0)
                memory = self.optimizer.state.get(weight, {}) if self.optimizer else {}
                for value in memory.values():
                    if isinstance(value, Tensor) and value.shape == weight.shape:
                        value.masked_fill_(gone, 0)
