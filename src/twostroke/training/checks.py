"""What is tried before a run begins, so that a misfit of model, data and loss shows at once."""

from __future__ import annotations

import inspect

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


def check_driven(optimizer: object, scheduler: object, steps: int) -> None:
    """`SettingsError` for an optimiser or a scheduler that `step()`, without arguments, cannot drive."""
    if not isinstance(optimizer, Optimizer):
        raise SettingsError(
            f"optimizer gives a {type(optimizer).__name__}, where a torch.optim.Optimizer is needed"
        )
    if isinstance(optimizer, torch.optim.SparseAdam):
        raise SettingsError("SparseAdam takes sparse gradients only, which no layer here has")
    for thing, fix in (
        (
            optimizer,
            "choose one whose step() needs none, or write a loop of your own (docs/loops.md)",
        ),
        (
            scheduler,
            "choose one that is stepped after every batch without any, or a loop of your own",
        ),
    ):
        name = type(thing).__name__
        missing = [
            one for one in ("step", "state_dict", "load_state_dict") if not hasattr(thing, one)
        ]
        if missing:
            raise SettingsError(f"schedule gives a {name}, which has no {missing[0]}: {fix}")
        _self, *asked = inspect.signature(type(thing).step).parameters.values()  # type: ignore[attr-defined]
        several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        needed = [p.name for p in asked if p.default is p.empty and p.kind not in several]
        if needed:
            raise SettingsError(f"{name}.step needs {' and '.join(needed)}: {fix}")
    if getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise SettingsError("the schedule is of another optimiser than that of the run")
    if getattr(scheduler, "total_steps", steps) < steps:
        raise SettingsError(
            f"{type(scheduler).__name__} ends after {scheduler.total_steps} steps, and the run has {steps}: "  # type: ignore[attr-defined]
            "make it for the number of steps that schedule(optimizer, steps) is given"
        )


def check_batch(batch_size: int, examples: int) -> None:
    """`SettingsError` for a batch of more examples than there are."""
    if batch_size > examples:
        raise SettingsError(
            f"a batch of {batch_size} is larger than the {examples} training examples: set batch_size "
            f"to {examples} or less"
        )
