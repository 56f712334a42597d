"""Prune a network: the smallest weights of each layer are zero."""

from __future__ import annotations

import copy

from torch import nn

from ...errors import SettingsError
from ...sparsity.layers import Masks, apply_masks
from ...sparsity.masks import by_magnitude
from .inner import inner_layers


def prune(model: nn.Module, share: float, *, spare_ends: bool = True) -> tuple[nn.Module, Masks]:
    """A copy of `model` without the `share` of each layer's weights that are smallest, and the masks of it.

    `share` is from 0 to below 1; the first and the last layer are spared unless told otherwise. The masks
    are bool, by module path, of the weights' shapes. They stay through training by
    `alternation=sparsity.Masked(masks=masks)`.

    Raises `SettingsError` for a share out of range or one that leaves nothing of a layer, and for a network
    without layers to prune.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
        raise SettingsError(f"share of weights to prune: from 0 and below 1, not {share!r}")
    student = copy.deepcopy(model).requires_grad_(True)
    layers = inner_layers(student, spare_ends=spare_ends)
    masks = by_magnitude({path: layer.weight for path, layer in layers.items()}, share)
    apply_masks(student, masks)
    return student, masks
