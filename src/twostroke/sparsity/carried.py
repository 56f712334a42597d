"""What a weight carries: the energy of eq. 36 and 41, for a connection instead of a unit.

A weight `w` from input unit i to output unit o adds `w z_i` to the pre-activation of o. Eq. 36 keeps
what it multiplies where its square exceeds a price. Summed over the places at which a convolution uses
the weight, and counted only where unit o is on:

    carried = w² Σ_places z_i² m_o

The sum is the gradient by the weight of a layer that is fed `z²`, at the output gradient `m`; so one
backward pass of the layer gives it, whatever the layer's stride, groups or padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..support.activations import Activation
from ..support.intercept import Intercept
from ..support.modes import evaluating
from .layers import Weighted, sharing


@dataclass
class Call:
    """One call of `layer`: the square of what went in, a stand-in for what came out, and its mask."""

    layer: Weighted
    squared: Tensor  # (batch, ...)
    output: Tensor  # (batch, ...), a leaf
    mask: Tensor = field(
        default_factory=lambda: torch.empty(0)
    )  # 1 where a unit is on, 0 elsewhere


def carried(call: Call) -> Tensor:
    """Energy that each weight of the layer carries in one call, summed over the batch: its shape."""
    weight = call.layer.weight.detach().requires_grad_()
    with torch.enable_grad():
        output = functional_call(call.layer, {"weight": weight}, (call.squared,))
        (places,) = torch.autograd.grad(output, weight, call.mask.to(output.dtype))
    return weight.detach().square() * places


def calls_of(
    model: nn.Module,
    x: Tensor,  # (batch, channels, height, width)
) -> dict[str, list[Call]]:
    """Run `model` on `x` in evaluation mode and return every call of each weighted layer.

    The calls of modules that share a weight stand together, under the path of the first.

    An output unit is on where a change of it would change what the next site passes on: the mask of
    the ReLU behind it, through batch norm, addition, concatenation or pooling. Layers with no site
    between them and the next weights (the logits, linear bottlenecks) count as on everywhere.
    """
    layers = sharing(model)
    calls: dict[str, list[Call]] = {path: [] for path in layers}
    sites = _Sites()
    with torch.enable_grad(), evaluating(model), _watched(layers, calls):
        with Intercept(model, sites, strict=False):
            model(x)
        outputs = [call.output for some in calls.values() for call in some]
        gradients: Any = [None] * len(outputs)
        if sites.passed:
            total = torch.stack(sites.passed).sum()
            gradients = torch.autograd.grad(total, outputs, allow_unused=True)
    every = (call for some in calls.values() for call in some)
    for call, gradient in zip(every, gradients, strict=True):
        on = torch.ones_like(call.output) if gradient is None else (gradient != 0)
        call.mask = on.to(call.output.dtype)
        call.output = call.output.detach()
    return calls


class _Sites:
    """Collects what the sites of a forward pass let through."""

    def __init__(self) -> None:
        self.passed: list[Tensor] = []

    def begin(self) -> None:
        self.passed = []

    def handle(self, path: str, call: int, act: Activation, run: Callable[[], Any]) -> Any:
        result = run()
        if act.unitwise and result.requires_grad:
            self.passed.append(result.sum())
        return result


@contextmanager
def _watched(layers: dict[str, list[Weighted]], calls: dict[str, list[Call]]) -> Iterator[None]:
    """Cut the graph behind every layer, so that gradients end at its output, and note its calls."""

    def hook(path: str) -> Callable[[Weighted, Any, dict[str, Any], Tensor], Tensor]:
        def note(layer: Weighted, inputs: Any, named: dict[str, Any], output: Tensor) -> Tensor:
            leaf = output.detach().requires_grad_()
            # squared here and now: what comes later may change the input in place
            z = inputs[0] if inputs else named["input"]
            calls[path].append(Call(layer, z.detach().square(), leaf))
            return leaf.clone()  # a leaf itself could not be changed in place

        return note

    with ExitStack() as stack:
        for path, modules in layers.items():
            for layer in modules:
                handle = layer.register_forward_hook(hook(path), with_kwargs=True)
                stack.callback(handle.remove)
        yield
