"""The other reading of Table 8: units are masked step by step, and their connections rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..alternation import Alternation, Alternator, BatchWise, Given
from ..alternation.batch_wise import BatchWiseAlternator
from ..errors import SettingsError
from ..support import Share, record
from ..support.modes import evaluating
from .layers import weighted_layers
from .masked import in_one_process


@dataclass(frozen=True, eq=False)
class PassedEnergy:
    """On where the energy that ReLU passes on exceeds `price` times its mean over the site's units.

    Eq. 38 for each example, or with `shared` eq. 41 for the batch, with x read as what leaves ReLU.
    The relative price needs no setting a site.
    """

    price: float
    shared: bool = True

    def __call__(
        self,
        q: Tensor,  # (batch, ...)
    ) -> Tensor:
        """Mask (batch, ...), or (1, ...) if shared."""
        energy = q.clamp(min=0).float().square()
        if self.shared:
            energy = energy.mean(0, keepdim=True)
        mean = energy.flatten(1).mean(1).view(-1, *[1] * (q.ndim - 1))
        return energy > self.price * mean


@dataclass(frozen=True, kw_only=True)
class Units(Alternation):
    """In every step of the sparse phase, units of little energy are off: `z = m ∘ ReLU(q)`.

    per="batch" gives the mini-batch one mask (B-alternation), per="instance" each example its own
    (I-alternation, found again in each step, so that nothing is stored). A unit is on where the
    energy that it passes on exceeds `price` times the mean of its site. Weights that get no gradient
    in a step, since all units that they serve are off, rest: neither weight decay nor momentum
    moves them. No weight is pruned.
    """

    per: Literal["batch", "instance"] = "batch"
    price: float = 0.01

    def __post_init__(self) -> None:
        if self.per not in ("batch", "instance"):
            raise SettingsError(f"per is 'batch' or 'instance', not {self.per!r}")
        if not 0 <= self.price < float("inf"):
            raise SettingsError(f"price must not be negative, as {self.price} is")

    @property
    def rule(self) -> PassedEnergy:
        """How the masks are made."""
        return PassedEnergy(self.price, shared=self.per == "batch")

    def machine(self, given: Given) -> Alternator:
        """See `alternation.Alternation.start`."""
        in_one_process(given.processes.count)
        if given.optimizer is None:
            raise SettingsError("masking units needs the optimiser: start(..., optimizer=...)")
        return _Resting(given, BatchWise(rule=self.rule))

    def density(
        self,
        model: nn.Module,
        x: Tensor,  # (batch, ...)
    ) -> Share:
        """Share of the units that the mask leaves on, for a batch, overall and by site."""
        on: list[Tensor] = []

        def rule(q: Tensor) -> Tensor:
            on.append(self.rule(q))
            return on[-1].expand(q.shape)  # not shared: a ReLU6 has a mask of its own an example

        with evaluating(model):
            sites = record(model, x, rule=rule, gated=True).sites
        counts = {site: int(mask.sum()) for site, mask in zip(sites, on, strict=True)}
        units = {site: mask.numel() for site, mask in zip(sites, on, strict=True)}
        return Share.of(counts, units)


class _Resting(BatchWiseAlternator):
    """Batch-wise alternation in which weights without gradient do not move."""

    def __init__(self, given: Given, kind: BatchWise) -> None:
        super().__init__(given, kind)
        assert self.optimizer is not None
        self._weights = [layer.weight for layer in weighted_layers(self.model).values()]
        self._resting: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = []
        self.optimizer.register_step_pre_hook(self._before)

    def _before(self, optimizer: Optimizer, *_: Any) -> None:
        """Keep the weights, and what the optimiser remembers of them."""
        self._resting = []
        for weight in self._weights:
            if weight.grad is not None:
                kept = {k: v.clone() for k, v in _memory(optimizer, weight).items()}
                kept["weight"] = weight.detach().clone()
                self._resting.append((weight, weight.grad == 0, kept))

    def after_step(self) -> None:
        """Put back what had no gradient; memory that the step has made of it is zero."""
        assert self.optimizer is not None
        with torch.no_grad():
            for weight, rests, kept in self._resting:
                weight.copy_(torch.where(rests, kept["weight"], weight))
                for name, value in _memory(self.optimizer, weight).items():
                    before = kept.get(name, torch.zeros_like(value))
                    value.copy_(torch.where(rests, before, value))
        self._resting = []


def _memory(optimizer: Optimizer, weight: Tensor) -> dict[str, Tensor]:
    """Momentum and moments of a weight: what the optimiser keeps of its shape."""
    return {
        name: value
        for name, value in optimizer.state.get(weight, {}).items()
        if isinstance(value, Tensor) and value.shape == weight.shape
    }
