"""What is tried before a run begins, so that a misfit of model, data and loss shows at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


def check_batch(batch_size: int, examples: int) -> None:
    """`SettingsError` for a batch of more examples than there are."""
    if batch_size > examples:
        raise SettingsError(
            f"a batch of {batch_size} is larger than the {examples} training examples: set batch_size "
            f"to {examples} or less"
        )
