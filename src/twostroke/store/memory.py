"""Supports in memory: one uint8 matrix, a row an example."""

from __future__ import annotations

import torch
from torch import Tensor

from ..support import Support
from .base import Place, Store, check_fits, check_written


class MemoryStore(Store):
    """Packed rows in the memory of the model's device, or in the host's (`host=True`).

    Takes `place.nbytes` bytes, all of them at construction. Host memory is locked where the model is on a
    GPU, which can then fetch rows while it computes.
    """

    def __init__(self, place: Place, *, host: bool = False) -> None:
        self.sites = place.sites
        self._pin = host and place.device.type == "cuda"
        device = torch.device("cpu") if host else place.device
        shape = place.examples, place.row
        self.rows = torch.zeros(shape, dtype=torch.uint8, device=device, pin_memory=self._pin)
        self.written = torch.zeros(place.examples, dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.rows)

    def begin(self, round_: int, view: int) -> None:
        """A support stroke begins; the rows of the one before no longer count."""
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
        if self._pin:  # so that nobody need wait for the copy to the GPU
            out = torch.empty(len(here), self.rows.shape[1], dtype=torch.uint8, pin_memory=True)
        # index_select copies whole rows; brackets go byte by byte and take eight times as long
        rows = torch.index_select(self.rows, 0, indices.to(self.rows.device), out=out)
        return Support(self.sites, rows.to(device, non_blocking=True))
