"""Refuse, by name, what keeps a held network from being an affine map of each example."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from ..errors import SettingsError, SupportMismatchError, UnholdableError
from ..support import Support, sites

_BY_INPUT = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)


def refuse_modules(model: nn.Module) -> None:
    """Raise for layers that divide by statistics of their input, or that draw at random.

    `UnholdableError` for normalisation that depends on the input whatever the mode; `SettingsError`
    for layers that would be affine in evaluation mode.
    """
    by_input, by_mode = [], []
    for name, module in model.named_modules():
        label = f"{name or 'the model itself'} ({type(module).__name__})"
        running = getattr(module, "running_mean", None) is not None
        if isinstance(module, _InstanceNorm | _BatchNorm):
            if not running:
                by_input.append(label)
            elif module.training:
                by_mode.append(label)
        elif isinstance(module, _BY_INPUT):
            by_input.append(label)
        elif isinstance(module, _DropoutNd) and module.training and module.p > 0:
            by_mode.append(label)
    if by_input:
        raise UnholdableError(
            "a held network with normalisation by the statistics of its own input is not affine: "
            + "; ".join(by_input)
            + ". Use batch norm with running statistics in evaluation mode, or no normalisation"
        )
    if by_mode:
        raise SettingsError(
            "in training mode these layers use batch statistics or draw at random, so that the "
            f"held network is not an affine map of an example: {'; '.join(by_mode)}. Call model.eval() "
            "before record and here"
        )


def refuse_support(model: nn.Module, support: Support, x: Tensor) -> None:
    """Raise for a support that leaves a site live, max pooling included."""
    known = {site.key for site in support.sites}
    live = [site for site in sites(model, x, pooling=True) if site.key not in known]
    pools = [site.key for site in live if site.kind == "max_pool"]
    if pools:
        raise UnholdableError(
            f"max pooling at {', '.join(pools)} has no argmax in this support, and is not linear "
            "by itself: record(model, x, pooling=True)"
        )
    if live:
        raise SupportMismatchError(
            f"this support has no mask for {', '.join(s.key for s in live)}: record it from this model"
        )


def refuse_gap(gap: Tensor, scale: Tensor) -> None:
    """Raise where a probe found the held network not affine, or its examples not independent."""
    if not gap.numel():
        return
    tolerance = 4 * torch.finfo(gap.dtype).eps ** 0.5
    worst = float(gap.abs().max() / scale.abs().max().clamp_min(torch.finfo(gap.dtype).tiny))
    if not worst <= tolerance:
        raise UnholdableError(
            f"the held network is not an affine map of each example: a random step misses its "
            f"linear prediction by {worst:.1e} of the output. Look for functional normalisation, products "
            "of activations, or operations across the batch"
        )
