"""Batch norm's running statistics, estimated anew for weights that have changed at a stroke."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

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

    In training mode, as they come to be in training; the modes are put back. Returns whether there was
    anything to do.
    """
    if not any(isinstance(m, _BatchNorm) and m.track_running_stats for m in model.modules()):
        return False
    device = next(model.parameters()).device
    chosen = some_examples(source, examples, seed)
    parts = chosen.tensor_split(max(1, round(len(chosen) / batch_size)))  # none of a single example
    with evaluating(model):  # puts every module's mode back
        update_bn((source.batch(indices, seed=seed)[0] for indices in parts), model, device)
    return True
