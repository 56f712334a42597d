"""A held network in sequence as stages: a layer with weights, then what the support makes linear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import UnholdableError
from ..support import HardThreshold, Support
from ..support.modules import in_sequence
from .held_loss import HeldLoss

_LAYERS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d,
)  # fmt: skip
_LINEAR = (
    nn.Flatten, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
)  # fmt: skip
_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@dataclass(frozen=True)
class Stage:
    """`q = layer(z)`, then `z' = between(q)`, which is linear: masks, pooling, flattening.

    `names` are the trained weights of the layer, by their names in the whole model.
    """

    path: str
    layer: nn.Module
    names: tuple[str, ...]
    after: tuple[Callable[[Tensor], Tensor], ...]

    def run(self, z: Tensor, weights: dict[str, Tensor]) -> Tensor:
        """`q` with the trained weights replaced by these, of the whole model's."""
        own = {name.rpartition(".")[2]: weights[name] for name in self.names}
        q: Tensor = functional_call(self.layer, own, (z,))
        return q

    def between(self, q: Tensor) -> Tensor:
        """What the next layer meets."""
        for function in self.after:
            q = function(q)
        return q


@dataclass(frozen=True)
class Stages:
    """The stages, what goes into the first, and the targets; all examples at once, in memory."""

    stages: tuple[Stage, ...]
    x: Tensor
    y: Tensor


def stages(problem: HeldLoss) -> Stages:
    """Read an `nn.Sequential` (nested ones are fine) and put the masks of its support in place.

    Layers are `Linear`, convolutions, and batch norm in evaluation mode; between them stand `ReLU`
    or `HardThreshold` under the support, average pooling, `Flatten`, `Identity` and `Dropout`.
    Raises `UnholdableError` for anything else, by name.
    """
    parts = problem.parts
    x, y = torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])
    support = Support(parts[0].support.sites, torch.cat([part.support.rows for part in parts]))
    begun: list[tuple[str, nn.Module]] = []
    after: list[list[Callable[[Tensor], Tensor]]] = [[]]
    calls: dict[str, int] = {}
    for path, module in in_sequence(problem.model):
        if isinstance(module, _LAYERS):
            begun.append((path, module))
            after.append([])
        elif isinstance(module, nn.ReLU | HardThreshold):
            key = f"{path}#{calls.get(path, 0)}"
            calls[path] = calls.get(path, 0) + 1
            after[-1].append(_masked(support[key]))
        elif isinstance(module, _LINEAR):
            after[-1].append(module)
        elif not isinstance(module, _NOTHING):
            what = path or "the model itself"
            raise UnholdableError(
                f"{what} ({type(module).__name__}) has no place in a chain of layers, which is what the "
                "augmented Lagrangian splits: build the model as nn.Sequential of Linear, Conv, "
                "BatchNorm, ReLU, average pooling and Flatten, or use BlockSweep"
            )
    if not begun:
        raise UnholdableError("the model has no layer with weights")
    if len({id(m) for _, m in begun}) < len(begun):
        raise UnholdableError(
            "a layer stands in the chain twice: its weights cannot be split, use LBFGS"
        )
    for function in after[0]:
        x = function(x)
    made = [
        Stage(path, module, _trained(path, problem), tuple(then))
        for (path, module), then in zip(begun, after[1:], strict=True)
    ]
    return Stages(tuple(made), x, y)


def _masked(mask: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda q: q * mask.to(q.dtype)


def _trained(path: str, problem: HeldLoss) -> tuple[str, ...]:
    return tuple(n for n in problem.weights if n.rpartition(".")[0] == path)
