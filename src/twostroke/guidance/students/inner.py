"""The layers of a network that are pruned or quantised."""

from __future__ import annotations

from torch import nn

from ...errors import SettingsError
from ...sparsity.layers import Weighted, sharing
from ...sparsity.reach import refuse_unreached


def inner_layers(model: nn.Module, *, spare_ends: bool = True) -> dict[str, Weighted]:
    """Convolutions and linear layers by module path, in the order of registration.

    `spare_ends` leaves out the first and the last: they see the image and give the outputs, are small, and
    lose most. Raises `SettingsError` where nothing is left, for layers that share a weight, and for a layer
    that computes with something else than its weight.
    """
    layers: dict[str, Weighted] = {}
    for path, those in sharing(model).items():
        if len(those) > 1:
            raise SettingsError(
                f"{path} shares its weight with {len(those) - 1} other layers: untie them first"
            )
        layers[path] = those[0]
    if spare_ends:
        layers = dict(list(layers.items())[1:-1])
    if not layers:
        raise SettingsError(
            f"{type(model).__name__} has no layers between its first and its last with weights: "
            "spare_ends=False takes these too"
        )
    for path, layer in layers.items():
        refuse_unreached(path, layer)
    return layers
