"""The objective of a weight stroke: mean loss of a held network over examples, as a function of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import SettingsError, SupportMismatchError, UnholdableError
from ..support import Support, hold
from ..support.modes import evaluating
from ..support.modules import unwrap

Loss = Callable[[Tensor, Tensor], Tensor]


class Part(NamedTuple):
    """Some examples: inputs (count, ...), targets (count, ...), and their support."""

    x: Tensor
    y: Tensor
    support: Support


class Block(NamedTuple):
    """One layer's trained parameters; the held network is affine in all of them together."""

    layer: str
    names: tuple[str, ...]
    size: int


class Look(NamedTuple):
    """Value, gradient by name, and the outputs of each part, at the weights as they are."""

    value: float
    gradient: dict[str, Tensor]
    outputs: list[Tensor]


class HeldLoss:
    """`mean loss(held network(x), y) + weight_decay / 2 ‖w‖²` over all examples of `parts`.

    Made by `HeldLoss.of(model, support, x, y)`, which cuts tensors into parts. One evaluation visits all
    parts, each within `hold`. `loss` is a mean over examples, as `F.cross_entropy` and `F.mse_loss` are,
    and convex in the outputs.

    The model computes in evaluation mode, where batch norm is affine and dropout is off: record the
    support in that mode too. Trained are the parameters that require a gradient; their gradients
    (`.grad`) are not touched. `passes` counts visits of all examples.

    Raises `SettingsError` for a model without trained parameters, for no parts, and for a negative
    weight decay; `UnholdableError` for DistributedDataParallel, where each process would solve a problem
    of its own.
    """

    def __init__(
        self,
        model: nn.Module,
        parts: Sequence[Part],
        *,
        loss: Loss = F.cross_entropy,
        weight_decay: float = 0.0,
    ) -> None:
        if isinstance(model, nn.parallel.DistributedDataParallel):
            raise UnholdableError(
                "a solver works in one process, and this model is in DistributedDataParallel: solve on "
                "model.module in one process and broadcast the weights"
            )
        self.model = unwrap(model)
        self.parts, self.loss, self.weight_decay = parts, loss, weight_decay
        self.weights = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.passes = 0.0
        self.examples = sum(len(part.y) for part in parts)
        if not self.weights:
            raise SettingsError("the model has no parameter to train")
        if not len(parts):
            raise SettingsError("there are no examples to solve for")
        if not weight_decay >= 0:
            raise SettingsError(f"weight_decay must not be negative, as {weight_decay} is")

    @classmethod
    def of(
        cls,
        model: nn.Module,
        support: Support,
        x: Tensor,  # (examples, ...)
        y: Tensor,  # (examples, ...)
        *,
        loss: Loss = F.cross_entropy,
        weight_decay: float = 0.0,
        chunk: int = 500,
    ) -> HeldLoss:
        """The objective on tensors, visited `chunk` examples at a time."""
        if not len(x) == len(y) == len(support):
            raise SupportMismatchError(
                f"x has {len(x)} examples, y {len(y)} and the support {len(support)}: record the support "
                "from this x"
            )
        if chunk < 1:
            raise SettingsError(f"chunk is a number of examples, 1 or more, not {chunk}")
        places = [slice(n, n + chunk) for n in range(0, len(x), chunk)]
        parts = [Part(x[place], y[place], support[place]) for place in places]
        return cls(model, parts, loss=loss, weight_decay=weight_decay)

    @property
    def blocks(self) -> list[Block]:
        """Layers with trained parameters of their own, first to last as the model names them."""
        layers: dict[str, list[str]] = {}
        for name in self.weights:
            layers.setdefault(name.rpartition(".")[0], []).append(name)
        return [
            Block(layer, tuple(names), sum(self.weights[n].numel() for n in names))
            for layer, names in layers.items()
        ]

    @contextmanager
    def solving(self) -> Iterator[None]:
        """Evaluation mode within the block, and gradients only where a solver asks for them."""
        with evaluating(self.model), torch.no_grad():
            yield

    def output(self, part: Part, changed: dict[str, Tensor]) -> Tensor:
        """Output of the held network for one part, with some parameters replaced."""
        frozen = {name: p.detach() for name, p in self.weights.items()}
        with hold(self.model, part.support):
            output: Tensor = functional_call(self.model, frozen | changed, (part.x,))
            return output

    def look(
        self, names: Sequence[str] | None = None, *, at: dict[str, Tensor] | None = None
    ) -> Look:
        """Value, gradient by the named parameters (all by default), outputs: one pass.

        `at` are values to look at instead of the model's own, then by all parameters.
        """
        chosen = self.copy(names) if at is None else {n: w.detach().clone() for n, w in at.items()}
        gradient = {n: self.weight_decay * p for n, p in chosen.items()}
        value, outputs = self.decay(chosen), []
        with torch.enable_grad():
            for w in chosen.values():
                w.requires_grad_()
            for part in self.parts:
                share = len(part.y) / self.examples
                output = self.output(part, chosen)
                mean = self.loss(output, part.y)
                grads = torch.autograd.grad(
                    mean, list(chosen.values()), allow_unused=True, materialize_grads=True
                )
                for name, g in zip(chosen, grads, strict=True):
                    gradient[name] = gradient[name] + share * g.detach()
                value += share * float(mean.detach().double())
                outputs.append(output.detach())
        self.passes += 1
        return Look(value, gradient, outputs)

    def value(self) -> float:
        """The objective at the weights as they are: one pass, without gradient."""
        total = self.decay()
        with torch.no_grad():
            for part in self.parts:
                mean = self.loss(self.output(part, {}), part.y)
                total += len(part.y) / self.examples * float(mean.double())
        self.passes += 1
        return total

    def decay(self, changed: dict[str, Tensor] | None = None) -> float:
        """The objective's second term, `weight_decay / 2 ‖w‖²`."""
        if not self.weight_decay:
            return 0.0
        return self.weight_decay / 2 * norm({**self.weights, **(changed or {})}) ** 2

    def put(self, values: dict[str, Tensor]) -> None:
        """Set parameters, in place."""
        with torch.no_grad():
            for name, value in values.items():
                self.weights[name].copy_(value)

    def copy(self, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Copies of parameters, all trained ones by default."""
        return {n: self.weights[n].detach().clone() for n in names or self.weights}


def norm(tensors: dict[str, Tensor]) -> float:
    """Norm of all entries together."""
    return math.sqrt(sum(float(t.detach().double().square().sum()) for t in tensors.values()))
