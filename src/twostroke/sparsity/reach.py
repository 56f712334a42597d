"""Whether a mask of weights reaches what a layer computes with."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from ..errors import SettingsError

_TWO = 1.0, 1.375  # inputs of the probe: sums and means of many of them are something else


def refuse_unreached(path: str, layer: _ConvNd | nn.Linear) -> None:
    """Raise `SettingsError` for a layer that multiplies by something else than its weight."""
    if not _multiplies_by_its_weight(layer):
        raise SettingsError(
            f"{path}: {type(layer).__name__} does not multiply by its weight as it stands (weights that "
            "are standardised or quantised in the forward pass), so that a mask would not make zeros "
            "of what it multiplies by: choose a model with plain layers"
        )


def _multiplies_by_its_weight(layer: _ConvNd | nn.Linear) -> bool:
    """Whether a single weight of 2 adds twice some input to some outputs, and nothing to others.

    PyTorch's own layers do. Others are tried, on a copy: they may pad in their own way (timm's
    Conv2dSame), but must not compute other weights from their own (timm's ScaledStdConv2d).
    """
    methods = [getattr(type(layer), name, None) for name in ("forward", "_conv_forward")]
    if all(m is None or m.__module__.startswith("torch.nn.modules.") for m in methods):
        return True
    try:
        probe = copy.deepcopy(layer).cpu().double().eval()
        weight = probe.weight
        x = _input(probe)
        with torch.no_grad():
            weight.zero_()
            bias = probe(x)
            weight[(0,) * weight.ndim] = 2
            change = (probe(x) - bias) / 2
    except Exception:  # whatever the forward pass of a layer that we know nothing of may raise
        return False
    allowed = change.new_tensor([0.0, *_TWO])
    near = torch.isclose(change[..., None], allowed, atol=1e-9).any(-1)
    return bool(near.all() and change.any())


def _input(layer: _ConvNd | nn.Linear) -> torch.Tensor:
    """One example for the layer, twice as large as its kernel reaches, made of two values."""
    shape: tuple[int, ...]
    if isinstance(layer, _ConvNd):
        reach = zip(layer.kernel_size, layer.dilation, strict=True)
        shape = (1, layer.in_channels, *(2 * (d * (k - 1) + 1) for k, d in reach))
    else:
        shape = (1, layer.in_features)
    draw = torch.Generator().manual_seed(0)
    low, high = _TWO
    return torch.where(torch.rand(shape, generator=draw).double() < 0.5, low, high).double()
