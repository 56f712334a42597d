"""Which weights a mask may prune, and how sparse a model is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ..errors import SettingsError
from .reach import refuse_unreached

Weighted = _ConvNd | nn.Linear
Masks = dict[str, Tensor]  # module path → bool, of the weight's shape, True where the weight stays


class Sparsity(float):
    """Share of zero weights (0 to 1) over all layers; `by_layer` has it for each, by module path."""

    by_layer: Mapping[str, float]


def weighted_layers(model: nn.Module) -> dict[str, Weighted]:
    """Convolutions of any kind and linear layers by module path, in the order of registration.

    A weight that several modules share is listed once. Raises `SettingsError` for a layer whose
    weight is made by a parametrisation, which a mask could not reach.
    """
    found: dict[str, Weighted] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        if not isinstance(module, _ConvNd | nn.Linear):
            continue
        weight = module.weight
        if not isinstance(weight, nn.Parameter):
            raise SettingsError(
                f"{path}: its weight is computed from other parameters (weight or spectral norm, "
                "quantisation), which a mask cannot prune: remove the parametrisation first"
            )
        if id(weight) not in seen:
            seen.add(id(weight))
            found[path] = module
    if not found:
        raise SettingsError("the model has no convolution and no linear layer that could be pruned")
    return found


def prunable(model: nn.Module, *, spare_first: bool = True) -> dict[str, Tensor]:
    """Weights of `weighted_layers`, without the first layer's, in the order of `named_modules` (Han et al.
    leave the first dense).

    Raises `SettingsError` for a layer that computes with something else than its weight.
    """
    layers = weighted_layers(model)
    if spare_first and len(layers) > 1:
        del layers[next(iter(layers))]
    for path, layer in layers.items():
        refuse_unreached(path, layer)
    return {path: layer.weight for path, layer in layers.items()}


def unknown_weights(model: nn.Module) -> list[str]:
    """Names of weights of two dimensions and more outside convolutions and linear layers.

    Such as timm's CondConv2d and attention's `in_proj_weight`; embeddings and norms do not count.
    """
    known = {id(layer.weight) for layer in weighted_layers(model).values()}
    return [
        f"{path}.{name}" if path else name
        for path, module in model.named_modules()
        if not isinstance(module, nn.Embedding | nn.EmbeddingBag)
        and "norm" not in type(module).__name__.lower()
        for name, value in module.named_parameters(recurse=False)
        if "weight" in name and sum(n > 1 for n in value.shape) > 1 and id(value) not in known
    ]


def sharing(model: nn.Module) -> dict[str, list[Weighted]]:
    """By path of each of `weighted_layers`, all modules that have its weight."""
    layers = weighted_layers(model)
    paths = {id(layer.weight): path for path, layer in layers.items()}
    found: dict[str, list[Weighted]] = {path: [] for path in layers}
    for module in model.modules():
        if isinstance(module, _ConvNd | nn.Linear):
            found[paths[id(module.weight)]].append(module)
    return found


def sparsity(model: nn.Module) -> Sparsity:
    """Share of weights that are exactly zero, in all convolutions and linear layers."""
    zeros, sizes = {}, {}
    for path, layer in weighted_layers(model).items():
        sizes[path] = layer.weight.numel()
        zeros[path] = sizes[path] - int(torch.count_nonzero(layer.weight))
    share = Sparsity(sum(zeros.values()) / max(1, sum(sizes.values())))
    share.by_layer = {path: zeros[path] / max(1, sizes[path]) for path in sizes}
    return share


def apply_masks(model: nn.Module, masks: Masks) -> None:
    """Set the weights to zero where their mask is off, in place.

    Raises `SettingsError` for a mask of a layer that the model lacks, of another shape, or that
    leaves a layer without any weight, and for a layer that computes with something else.
    """
    layers = weighted_layers(model)
    for path, keep in masks.items():
        if path not in layers or layers[path].weight.shape != keep.shape:
            raise SettingsError(f"the mask of {path!r} belongs to no layer of this model")
        refuse_unreached(path, layers[path])
        if not bool(keep.any()):
            raise SettingsError(
                f"the mask would prune every weight of {path}: lower the ratio or the price"
            )
    with torch.no_grad():
        for path, keep in masks.items():
            weight = layers[path].weight
            weight.masked_fill_(~keep.to(weight.device), 0)
