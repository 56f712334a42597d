"""Evaluation: the live network, or the network with masks at test (the paper's MaskT)."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._generators import generators_kept
from ..data import ExampleSource, announce
from ..support import PositiveThreshold, Rule, hold
from ..support.modes import evaluating
from .adding import Adding
from .adding import Loss as Loss


class Evaluation(NamedTuple):
    """Mean loss and error in %."""

    loss: float
    error: float


@generators_kept()
def evaluate(
    model: nn.Module,
    source: ExampleSource,
    *,
    rule: Rule | None = None,
    gated: bool = False,
    loss: Loss = F.cross_entropy,
    batch_size: int = 500,
    indices: Tensor | None = None,
    view: int | None = None,
    seed: int = 0,
) -> Evaluation:
    """Mean loss and classification error of `source`, in evaluation mode, without gradient.

    Without a `rule` it is the live network, ReLU and all. With one the rule's mask replaces
    every activation (MaskT), or on top of it when `gated`. `indices` choose examples; `view` is an
    augmentation draw, none by default. The model's mode is put back.
    """
    chosen = torch.arange(len(source)) if indices is None else indices
    with hold(model, rule, gated=gated) if rule else nullcontext():
        return mean_of(tally(model, source, chosen, loss, batch_size, view, seed))


def tally(
    model: nn.Module,
    source: ExampleSource,
    indices: Tensor,  # (examples,), may be empty
    loss: Loss = F.cross_entropy,
    batch_size: int = 500,
    view: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Loss summed over examples, by what that is divided for the mean, wrong answers, and examples.

    (4,) float64, to be added up.
    """
    device = next(model.parameters()).device
    total, over = torch.zeros(2, device=device, dtype=torch.float64)
    adding, module = Adding.of(loss), loss if isinstance(loss, nn.Module) else nn.Module()
    wrong = torch.zeros((), device=device, dtype=torch.int64)
    with torch.no_grad(), evaluating(model), evaluating(module):
        parts = indices.split(batch_size) if len(indices) else ()
        announce(source, parts, view=view, seed=seed)
        for part in parts:
            x, y = source.batch(part, view=view, seed=seed)
            y = y.to(device)
            output = model(x.to(device))
            summed, weights = adding.total(output, y)
            total, over = total + summed, over + weights
            wrong += (output.argmax(1) != y).sum()
    return torch.stack([total, over, wrong.double(), total.new_tensor(len(indices))])


def mean_of(counts: Tensor) -> Evaluation:
    """Mean loss and error of a tally."""
    total, over, wrong, examples = counts.tolist()
    return Evaluation(total / over if over else math.nan, 100 * wrong / examples)


# MaskT (Table 2) as far as the paper tells it: eq. 38's mask instead of ReLU on test images. It names no
# price, and not whether x in eq. 38 is what enters ReLU or what leaves it. Read the first way the mask
# lets large negative values through and a network trained with ReLU is at chance; this is the second way.
MASK_AT_TEST = PositiveThreshold(keep=0.5)
