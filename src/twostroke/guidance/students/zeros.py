"""Weights of which most are zero: a bit for each, and the values of the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...support.bits import pack, unpack


def mostly_zero(tensor: Tensor) -> bool:
    """Whether it is a weight, of two dimensions or more, with zeros in more than half of its places."""
    return tensor.ndim > 1 and 2 * int(torch.count_nonzero(tensor)) < tensor.numel()


def split(
    weight: Tensor,  # any shape, on the CPU
) -> tuple[Tensor, Tensor]:  # (⌈count / 8⌉,) uint8; (count of the others,)
    """Where the weight is not zero, one bit each, and what it is there."""
    there = weight != 0
    return pack(there.reshape(1, -1)).reshape(-1), weight[there]


def join(there: Tensor, values: Tensor, shape: Sequence[int]) -> Tensor:
    """Undo `split`; raises `ValueError` where the two do not fit."""
    mask = unpack(there.reshape(1, -1), shape)[0]
    if int(mask.sum()) != len(values):
        raise ValueError(f"{len(values)} values for {int(mask.sum())} places")
    return torch.zeros(*shape, dtype=values.dtype).masked_scatter_(mask, values)
