"""The gauge of a ReLU network: scales that no output shows, put into its last layer.

A hidden unit's weights may grow by a factor above 0 and those that read it shrink by the same: neither the
outputs nor any mask change. Networks that are rebuilt from their masks are compared where every hidden unit
has norm 1.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..errors import UnholdableError
from ..support.modules import in_sequence

# between layers with weights: what commutes with a factor above 0 for each channel
_BETWEEN = (
    nn.ReLU, nn.Flatten, nn.Identity, nn.Dropout, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d,
)  # fmt: skip


def plain_layers(model: nn.Module) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    """The layers with weights, in order, by path.

    Raises `UnholdableError` for other models than an `nn.Sequential` of `Linear`, `Conv2d` without groups,
    `ReLU`, pooling, `Flatten` and `Dropout`, and for a layer that stands there twice.
    """
    layers: list[tuple[str, nn.Linear | nn.Conv2d]] = []
    for name, module in in_sequence(model):
        if isinstance(module, nn.Linear | nn.Conv2d):
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                raise UnholdableError(f"{name} is a convolution in groups, which has no place here")
            layers.append((name, module))
        elif not isinstance(module, _BETWEEN):
            raise UnholdableError(
                f"{name or 'the model itself'} ({type(module).__name__}) has no place in a plain network: use "
                "Linear, Conv2d, ReLU, pooling and Flatten, with batch norm folded into its layer"
            )
    if len({id(layer) for _, layer in layers}) < len(layers):
        raise UnholdableError("a layer stands in the model twice: give each place its own")
    if not layers:
        raise UnholdableError("the model has no weight layer")
    return layers


def rows_of(layer: nn.Linear | nn.Conv2d) -> Tensor:
    """Weights of each unit, the bias last if there is one: (units, fan-in)."""
    w = layer.weight.detach().flatten(1)
    return w if layer.bias is None else torch.cat([w, layer.bias.detach()[:, None]], 1)


def put_rows(layer: nn.Linear | nn.Conv2d, rows: Tensor) -> None:
    """Write what `rows_of` reads."""
    with torch.no_grad():
        layer.weight.copy_(rows[:, : layer.weight[0].numel()].view_as(layer.weight))
        if layer.bias is not None:
            layer.bias.copy_(rows[:, -1])


def unit_gauge(model: nn.Module) -> nn.Module:
    """A copy in float64 and evaluation mode, the same function, whose hidden units have norm 1.

    A unit of zeros stays. Raises what `plain_layers` raises.
    """
    scaled = copy.deepcopy(model).double().eval()
    layers = [layer for _, layer in plain_layers(scaled)]
    for layer, after in pairwise(layers):
        rows = rows_of(layer)
        norm = rows.norm(dim=1)
        put_rows(layer, rows / torch.where(norm > 0, norm, 1)[:, None])
        with torch.no_grad():  # all weights that read one channel lie side by side
            read = after.weight.view(len(after.weight), len(norm), -1)
            read.mul_(norm[:, None])
    return scaled
