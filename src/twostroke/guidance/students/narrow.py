"""Narrow a convolutional network: every hidden layer keeps a share of its channels."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..._generators import generators_kept
from ...errors import SettingsError
from ...sparsity.layers import Weighted, weighted_layers
from ...support.modes import evaluating
from .fresh import draw

_MISSING = "narrow needs torch-pruning, which is not installed: pip install 'twostroke[shrink]'"


@generators_kept()
def narrow(
    model: nn.Module,
    width: float,
    x: Tensor,  # (batch, channels, height, width) what the network takes
    *,
    fresh: bool = False,
    seed: int = 0,
) -> nn.Module:
    """A copy of `model` with `width` times the channels in every hidden layer, rounded down.

    Inputs, outputs and the number of groups stay; layers that are added up or concatenated stay in step
    (torch-pruning follows the graph: Fang et al. 2023, "DepGraph"). `width` is above 0 and at most 1. One
    image of `x` goes through the network to see the graph.

    The channels with the largest L2 norm keep the weights that they have; with `fresh` all weights are drawn
    by `seed` instead (He et al. 2015). The result is of the class that `model` is of and needs this
    package no more, but its class alone builds the wide network: `Student` saves and loads it. All its
    parameters learn. The shapes depend on `width` and the network, never on its weights.

    Raises `SettingsError` where torch-pruning is missing, for a width out of range or one that leaves a
    layer without channels, and for a network whose graph cannot be followed.
    """
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= 1:
        raise SettingsError(
            f"width is a share of the channels, above 0 and at most 1, not {width!r}"
        )
    weighted_layers(model)  # refuses what has none
    student = copy.deepcopy(model).cpu().requires_grad_(True)
    x = x[:1].detach().cpu()
    with evaluating(student):
        _shrink(student, width, x)
    if fresh:
        draw(student, seed)
    device = next(p.device for p in model.parameters())
    return student.to(device)


def _shrink(model: nn.Module, width: float, x: Tensor) -> None:
    """Take channels out, in place, and see that it was done everywhere."""
    pruning = _torch_pruning()
    layers = weighted_layers(model)
    last = list(layers)[-1]
    before = {path: _channels(layer) for path, layer in layers.items()}
    with torch.no_grad():
        outputs = model(x)
    if not isinstance(outputs, Tensor):
        raise SettingsError(
            f"{type(model).__name__} returns {type(outputs).__name__}, not a tensor: narrow a network that "
            "returns one"
        )
    kept = width + 1e-9  # 0.3 of 10 are 3, also in floating point
    try:
        pruning.pruner.BasePruner(
            model,
            x,
            importance=pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=max(0.0, 1 - kept),
            ignored_layers=[layers[last]],
        ).step()
        with torch.no_grad():
            shape = model(x).shape
    except Exception as error:  # whatever torch-pruning or a broken forward pass may raise
        raise SettingsError(
            f"{type(model).__name__} cannot be narrowed, torch-pruning does not follow its graph "
            f"({type(error).__name__}: {error}): take another network as the student"
        ) from error
    if shape != outputs.shape:
        raise SettingsError(
            f"the outputs of {type(model).__name__} would change from {tuple(outputs.shape)} to "
            f"{tuple(shape)}: they do not come from {last}, its last layer with weights. Take another network "
            "as the student"
        )
    for path, layer in layers.items():
        if path != last and _channels(layer) > kept * before[path]:
            raise SettingsError(
                f"width {width}: {path} keeps its {before[path]} channels, since nothing would be left of it "
                "or of a layer that goes with it, or they reach the outputs: choose a larger width or "
                "another network"
            )


def _channels(layer: Weighted) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _torch_pruning() -> Any:
    try:
        import torch_pruning
    except ImportError:
        raise SettingsError(_MISSING) from None
    return torch_pruning
