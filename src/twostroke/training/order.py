"""In which order an epoch visits the examples: one order, whatever the number of processes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Order = Literal["shuffle", "balanced"]
WINDOW = 256  # most processes for which batches come out balanced


def epoch_order(order: Order, examples: int, draw: torch.Generator) -> Tensor:
    """Indices (examples,) int64, each once.

    "shuffle" is a permutation drawn from all. "balanced" is drawn from those in which every run of
    `2^j <= 256` examples that begins at a multiple of its length has one of each residue modulo
    `2^j` (but for the end, where they run out): `2^j` processes, which own residues, then have equal
    shares of a batch whose size is a multiple of `2^j`.
    """
    if order == "shuffle":
        return torch.randperm(examples, generator=draw)
    window = min(WINDOW, 1 << (examples.bit_length() - 1))
    # the examples of each residue, shuffled: the r-th of each is visited in round r
    shuffled = torch.randperm(examples, generator=draw)
    shuffled = shuffled[(shuffled % window).argsort(stable=True)]
    residue = shuffled % window
    start = torch.zeros(window + 1, dtype=torch.int64)
    start[1:] = torch.bincount(residue, minlength=window).cumsum(0)
    turn = torch.arange(examples) - start[residue]
    place = _places(-(-examples // window), window, draw)
    return shuffled[(turn * window + place[turn, residue]).argsort()]


def _places(rounds: int, window: int, draw: torch.Generator) -> Tensor:
    """Place of each residue within each round, (rounds, window).

    A place's bits, from the highest, are flipped or not by coins that depend on the bits above, so
    that places which agree above bit j have every residue modulo 2^j among them.
    """
    place = torch.arange(window).expand(rounds, window)
    residue = torch.zeros_like(place)
    for bit in reversed(range(window.bit_length() - 1)):
        coins = torch.randint(2, (rounds, window >> (bit + 1)), generator=draw)
        flip = coins.gather(1, place >> (bit + 1))
        residue = residue | (((place >> bit) & 1) ^ flip) << bit
    return residue.argsort(1)
