"""Supports in memory: one uint8 matrix, a row an example."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..support import Site, Support
from .base import check_fits, check_written


class MemoryStore:
    """Packed rows in the memory of one device: the model's own, or the host's (`device="cpu"`).

    Takes `examples * sum(site.nbytes for site in sites)` bytes, all of them at construction. `pin`
    locks host memory, from where a GPU fetches rows while it computes.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        examples: int,
        device: torch.device | str = "cpu",
        *,
        pin: bool = False,
    ) -> None:
        self.sites = tuple(sites)
        self._pin = pin
        row = sum(site.nbytes for site in self.sites)
        self.rows = torch.zeros(examples, row, dtype=torch.uint8, device=device, pin_memory=pin)
        self.written = torch.zeros(examples, dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes that the rows take."""
        return self.rows.numel()

    def begin(self, round_: int, view: int, *, keep: bool = False) -> None:
        """A support stroke begins; without `keep` the rows of the one before count no longer."""
        if not keep:
            self.written.zero_()

    def write(self, indices: Tensor, support: Support) -> None:
        """Keep `support`, whose examples have these indices, (examples,) int64."""
        check_fits(self.sites, indices, support)
        device = self.rows.device
        self.rows.index_copy_(0, indices.to(device), support.rows.to(device))
        self.written[indices.cpu()] = True

    def publish(self) -> None:
        """The stroke is over; raises `SupportMismatchError` where a row was never written."""
        check_written((~self.written).nonzero().view(-1))

    def read(self, indices: Tensor, device: torch.device | str) -> Support:
        """Support of the examples of these indices, on a device; raises for rows never written."""
        here = indices.cpu()
        check_written(here[~self.written[here]])
        out = None
        if self._pin:  # so that the copy to the GPU need not be waited for
            out = torch.empty(len(here), self.rows.shape[1], dtype=torch.uint8, pin_memory=True)
        # index_select copies whole rows; brackets go byte by byte and take eight times as long
        rows = torch.index_select(self.rows, 0, indices.to(self.rows.device), out=out)
        return Support(self.sites, rows.to(device, non_blocking=True))

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Memory needs no reading ahead."""

    def reference(self) -> dict[str, Any] | None:
        """None: a checkpoint must keep the rows themselves."""
        return None

    def settle(self) -> None:
        """There are no files."""

    def whole(self) -> Support:
        """Every row, where it lives; not a copy."""
        return Support(self.sites, self.rows)

    def close(self) -> None:
        """Nothing to give back before the store itself goes."""
