"""Batch norm's running statistics, estimated anew for weights that have changed at a stroke."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..data import ExampleSource
from ..support.modes import evaluating
from .masks import some_examples


def estimate_statistics(
    model: nn.Module,
    source: ExampleSource,
    *,
    examples: int = 2048,
    batch_size: int = 128,
    seed: int = 0,
) -> bool:
    """Replace running means and variances by those over `examples` training examples.

    Layers that keep none, or are frozen in evaluation mode for good, stay as they are. Returns whether
    there was anything to do. The model's modes are put back.
    """
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
    if not norms:
        return False
    device = next(model.parameters()).device
    momenta = [norm.momentum for norm in norms]
    chosen = some_examples(source, examples, seed)
    parts = chosen.tensor_split(max(1, round(len(chosen) / batch_size)))  # none of a single example
    with torch.no_grad(), evaluating(model):
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a plain average over the batches
                norm.train()
            for indices in parts:
                x, _ = source.batch(indices, seed=seed)
                model(x.to(device))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    return True
