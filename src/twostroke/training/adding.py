"""How the losses of parts make that of a batch, and of a data set.

A loss is usually the mean over the examples of a batch. With class weights, or labels that are ignored, it is
a weighted mean; with `reduction="sum"` it is a sum. Code that adds up the losses of parts must know which.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]
_WEIGHTED = (nn.CrossEntropyLoss, nn.NLLLoss)
_FUNCTIONS = (F.cross_entropy, F.nll_loss)


@dataclass(frozen=True)
class Adding:
    """How `loss` adds up over examples.

    kind: "mean" over examples; "weighted", a mean by `weigh` of the labels; or "sum".
    summed: of a weighted mean, the sum over examples that it divides.
    """

    kind: Literal["mean", "weighted", "sum"]
    loss: Loss
    summed: Loss
    weight: Tensor | None = None  # (classes,)
    ignored: int = -1

    @classmethod
    def of(cls, loss: Loss) -> Adding:
        """What PyTorch's losses say of themselves; others are taken for means."""
        options: dict[str, Any] = {}
        function: Any = loss
        if isinstance(loss, functools.partial):
            function, options = loss.func, loss.keywords
        elif isinstance(loss, nn.Module):
            options = vars(loss) | loss._buffers
        if options.get("reduction") == "sum":
            return cls("sum", loss, loss)
        if type(loss) not in _WEIGHTED and function not in _FUNCTIONS:
            return cls("mean", loss, loss)
        weight, ignored = options.get("weight"), options.get("ignore_index", -100)
        if weight is None and ignored < 0:  # labels are never below 0
            return cls("mean", loss, loss)
        if isinstance(loss, nn.Module):
            summed: Any = copy.copy(loss)  # which shares the weights
            summed.reduction = "sum"
        else:
            summed = functools.partial(function, **{**options, "reduction": "sum"})
        return cls("weighted", loss, summed, weight, ignored)

    def weigh(
        self,
        y: Tensor,  # (examples,)
    ) -> Tensor:  # scalar, float64
        """What the sum over these examples is divided by for the mean."""
        if self.kind != "weighted":
            return y.new_tensor(len(y)).double()
        counts = y != self.ignored
        if self.weight is None:
            return counts.sum().double()
        weight = self.weight.to(y.device).double()
        return (weight[y.where(counts, 0)] * counts).sum()

    def total(
        self,
        outputs: Tensor,  # (examples, ...)
        y: Tensor,  # (examples,)
    ) -> tuple[Tensor, Tensor]:
        """Sum over examples, and what to divide it by: scalars, to be added up."""
        value = self.summed(outputs, y).double()
        return (value * len(y) if self.kind == "mean" else value), self.weigh(y)


def known(loss: Loss) -> bool:
    """Whether `Adding.of` can be sure."""
    function = loss.func if isinstance(loss, functools.partial) else loss
    return type(loss) in _WEIGHTED or function in _FUNCTIONS or Adding.of(loss).kind == "sum"


def adds_up(
    value: Callable[[Tensor], float],
    indices: Tensor,  # (examples,), two or more
) -> Literal["mean", "sum", "neither"]:
    """Whether the loss of these examples is the mean, or the sum, of the losses of two parts of them."""
    a, b = indices.tensor_split([-(-len(indices) // 3)])
    whole, first, rest = value(indices), value(a), value(b)
    near = 1e-4 * (abs(first) + abs(rest))
    if abs(whole - (first * len(a) + rest * len(b)) / len(indices)) <= near:
        return "mean"
    return "sum" if abs(whole - first - rest) <= near else "neither"
