"""The processes of a run: what a state machine needs to know of them, and the case of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..support import Share


class Processes:
    """One process, which owns every example. `several.Several` is the case of several.

    Example i belongs to process `i % count`, for the whole run: it alone stores that example's
    support, in row `i // count` of its store. Interleaved shares differ by one example at most, and
    stay mixed where a data set is sorted by class.
    """

    index = 0
    count = 1
    here = 1  # processes on this machine
    idle = False  # within `taking`: there is nothing for this process to do, it only takes part

    @property
    def main(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.index == 0

    @property
    def first_here(self) -> bool:
        """Whether this is the first process on its machine."""
        return self.main

    @property
    def stand_in(self) -> Tensor:
        """An example of this process's own, (1,), to compute on where it has none of a batch."""
        return torch.tensor([self.index])

    def owned(self, examples: int) -> Tensor:
        """Indices of this process's examples, (share,) int64, in the order of its store's rows."""
        return torch.arange(self.index, examples, self.count)

    def share(self, indices: Tensor) -> Tensor:
        """Those of `indices` that this process owns, in their order."""
        return indices if self.count == 1 else indices[indices % self.count == self.index]

    def part(self, indices: Tensor) -> Tensor:
        """This process's part of `indices` by position, equal parts: for what is not stored."""
        return indices.tensor_split(self.count)[self.index]

    def row(self, indices: Tensor) -> Tensor:
        """Rows of this process's store for examples that it owns."""
        return indices if self.count == 1 else indices // self.count

    @contextmanager
    def taking(self, indices: Tensor, *, owned: bool = True) -> Iterator[Tensor]:
        """This process's examples of a batch: those it owns, or an equal part.

        A process that has none gets its stand-in and is `idle` within the block, so that it runs
        through the same collective operations as the others; nothing of that may count.
        """
        mine = self.of_batch(indices, owned=owned)
        before, self.idle = self.idle, not len(mine)
        try:
            yield self.stand_in if self.idle else mine
        finally:
            self.idle = before

    def of_batch(self, indices: Tensor, *, owned: bool = True) -> Tensor:
        """What `taking` takes; may be empty."""
        return self.share(indices) if owned else self.part(indices)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes, the same in each of them."""
        return values

    def each(self, text: str) -> list[str]:
        """What every process says, in their order; up to 64 bytes of it."""
        said = torch.zeros(self.count, 64, dtype=torch.int64)
        said[self.index, : len(text.encode())] = torch.tensor(list(text.encode()))
        return [bytes(row[row > 0].tolist()).decode() for row in self.sum(said)]

    def total(self, sums: Tensor, examples: int) -> tuple[Tensor, float | Tensor]:
        """Sums over each process's examples, and their number, over all processes; for rules."""
        return sums, examples

    def whole(self, share: Share) -> Share:
        """The share over all processes, from each one's counts; an idle one's do not count."""
        if self.count == 1:
            return share
        counts = torch.tensor(
            [list(share.counts.values()), list(share.units.values())], dtype=torch.float64
        )
        counts, units = self.sum(counts * (not self.idle)).long().tolist()
        return Share.of(
            dict(zip(share.counts, counts, strict=True)),
            dict(zip(share.units, units, strict=True)),
        )

    def same(self, *modules: nn.Module, buffers_only: bool = False) -> None:
        """Give every process the main one's parameters and buffers."""

    # -- what the driver needs beside ----------------------------------------------------------

    def device(self, name: str) -> torch.device | None:
        """The device of this process, where the launcher has a say in it."""
        return None

    def wrapped(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        """The module to run forward in training, whose backward pass adds up gradients."""
        return nullcontext(model)

    def adding_up(self, wrapped: nn.Module, now: bool) -> AbstractContextManager[Any]:
        """Context of a part of a step; gradients are added up over processes in the last one."""
        return nullcontext()

    def mean_gradients(self, module: nn.Module) -> None:
        """Average the gradients of a module that `wrapped` does not have, over the processes."""

    def together(self) -> AbstractContextManager[Any]:
        """A block that all processes must get through: an error in one is an error in all."""
        return nullcontext()

    def watching(self) -> AbstractContextManager[Any]:
        """A block in which a process that is gone raises `ProcessError` in the others."""
        return nullcontext()


ONE = Processes()
