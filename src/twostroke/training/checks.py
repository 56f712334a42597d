"""What is tried before a run begins, so that a misfit of model, data and loss shows at once."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data import ExampleSource
from ..errors import SettingsError
from ..support.modes import evaluating
from .evaluate import Loss


def check_output(model: nn.Module, source: ExampleSource, loss: Loss, seed: int) -> None:
    """Run one example; `SettingsError` where input or output has the wrong shape."""
    x, _ = source.batch(torch.arange(1), view=0, seed=seed)
    with torch.no_grad(), evaluating(model):
        try:
            output = model(x.to(next(model.parameters()).device))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise SettingsError(
                f"the model does not take images of shape {tuple(x.shape[1:])}: {error}"
            ) from error
    if not isinstance(output, Tensor):
        raise SettingsError(
            f"the model returns a {type(output).__name__}, where the loss needs one tensor: "
            "switch auxiliary outputs off"
        )
    classes = len(source.classes)
    if loss is F.cross_entropy and output.shape[1:] != (classes,):
        raise SettingsError(
            f"the model gives {tuple(output.shape[1:])} outputs an image and the data has "
            f"{classes} classes: build the model with classes={classes}"
        )


def check_optimizer(optimizer: object) -> None:
    """`SettingsError` for what a training step cannot drive, by name."""
    if not isinstance(optimizer, Optimizer):
        raise SettingsError(
            f"optimizer gives a {type(optimizer).__name__}, where a torch.optim.Optimizer is needed"
        )
    if isinstance(optimizer, torch.optim.SparseAdam):
        raise SettingsError("SparseAdam takes sparse gradients only, which no layer here has")
    _check_step(optimizer, "an optimiser whose step() needs nothing")


def check_scheduler(scheduler: object, optimizer: Optimizer, steps: int) -> None:
    """`SettingsError` for what cannot be stepped after each of so many batches, by name."""
    for method in ("step", "state_dict", "load_state_dict"):
        if not hasattr(scheduler, method):
            raise SettingsError(
                f"schedule gives a {type(scheduler).__name__}, which has no {method}"
            )
    _check_step(scheduler, "a schedule by steps, such as cosine")
    if getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise SettingsError("the schedule is of another optimiser than that of the run")
    if (end := getattr(scheduler, "total_steps", steps)) < steps:
        raise SettingsError(
            f"{type(scheduler).__name__} ends after {end} steps, and the run has {steps}: make it for the "
            "number of steps that schedule(optimizer, steps) is given"
        )


def _check_step(thing: Any, instead: str) -> None:
    # of the class, since PyTorch puts a wrapper without a signature into the object
    _self, *asked = inspect.signature(type(thing).step).parameters.values()
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in asked if p.default is p.empty and p.kind not in several]
    if needed:
        raise SettingsError(
            f"{type(thing).__name__}.step needs {' and '.join(needed)}, which fit does not give: choose "
            f"{instead}, or write a loop of your own (docs/loops.md)"
        )


def check_batch(batch_size: int, examples: int) -> None:
    """`SettingsError` for a batch of more examples than there are."""
    if batch_size > examples:
        raise SettingsError(
            f"a batch of {batch_size} is larger than the {examples} training examples: set batch_size "
            f"to {examples} or less"
        )
