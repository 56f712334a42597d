"""Modes: a model is left in that it was found in, and what is frozen stays frozen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; afterwards every module is in the mode it was in before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def frozen(model: nn.Module) -> list[nn.Module]:
    """Modules that compute as in evaluation while the rest of the model trains.

    Those in evaluation mode, where others are not: somebody has put them into it. And those with
    parameters none of which trains, with all that is in them.
    """
    modules = list(model.modules())
    chosen = [module for module in modules if not module.training]
    if len(chosen) == len(modules):
        chosen = []  # the whole model: it comes from an evaluation
    for module in modules:
        trains = [p.requires_grad for p in module.parameters()]
        if trains and not any(trains):
            chosen += module.modules()
    return list(dict.fromkeys(chosen))


def train_but(model: nn.Module, still: Iterable[nn.Module]) -> None:
    """Training mode, but for the modules that are `still`."""
    model.train()
    for module in still:
        module.training = False
