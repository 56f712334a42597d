"""Batch norm's running statistics, estimated again after the weights have moved."""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..data import ExampleSource, draw_some
from ..support.modes import evaluating, frozen, train_but


def batches_seen(model: nn.Module) -> dict[str, int]:
    """How many batches each module of batch norm that gathers running statistics has seen, by its name."""
    return {
        name: int(module.num_batches_tracked or 0)
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    }


def estimate_statistics(
    model: nn.Module,
    source: ExampleSource,
    *,
    examples: int = 2048,
    batch_size: int = 128,
    seed: int = 0,
    view: int | None = None,
    only: Collection[str] | None = None,
) -> bool:
    """Replace running means and variances by those over `examples` training examples.

    The rest of the model is in training mode, as when they come to be in training; all modes are put
    back, and the number of batches goes on. What is `frozen` keeps its statistics. `only` the modules of
    batch norm with these names, where not all: the others are in evaluation mode. Returns whether there was
    anything to do. An interruption leaves the statistics as they were.
    """
    norms = {name: cast(_BatchNorm, model.get_submodule(name)) for name in batches_seen(model)}
    still = frozen(model)
    chosen = [
        norm for name, norm in norms.items() if norm not in still and (only is None or name in only)
    ]
    if not chosen:
        return False
    device = next(model.parameters()).device
    drawn = draw_some(examples, len(source), seed=seed, view=1)
    parts = drawn.tensor_split(max(1, round(len(drawn) / batch_size)))  # none of a single example
    before = [(norm.momentum, deepcopy(norm.state_dict())) for norm in chosen]
    with evaluating(model), torch.no_grad():
        train_but(model, still)
        for norm in norms.values():
            norm.train(norm in chosen)
        for norm in chosen:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
        try:
            for indices in parts:
                x, _ = source.batch(indices, view=view, seed=seed)
                model(x.to(device))
        except BaseException:  # half of an estimate is worse than none
            for norm, (_, state) in zip(chosen, before, strict=True):
                norm.load_state_dict(state)
            raise
        else:
            for norm, (_, state) in zip(chosen, before, strict=True):
                cast(Tensor, norm.num_batches_tracked).add_(state["num_batches_tracked"])
        finally:
            for norm, (momentum, _) in zip(chosen, before, strict=True):
                norm.momentum = momentum
    return True
