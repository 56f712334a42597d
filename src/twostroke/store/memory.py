"""Supports in memory: one uint8 matrix, a row an example."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import SupportMismatchError
from ..support import Site, Support


class MemoryStore:
    """Packed rows in the memory of one device: the model's own, or the host's (`device="cpu"`).

    Takes `examples * sum(site.nbytes for site in sites)` bytes, all of them at construction, so that
    what does not fit fails before any work.
    """

    def __init__(
        self, sites: Sequence[Site], examples: int, device: torch.device | str = "cpu"
    ) -> None:
        self.sites = tuple(sites)
        row = sum(site.nbytes for site in self.sites)
        self.rows = torch.zeros(examples, row, dtype=torch.uint8, device=device)
        self.written = torch.zeros(examples, dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes that the rows take."""
        return self.rows.numel()

    def write(self, indices: Tensor, support: Support) -> None:
        """Keep `support`, whose examples have these indices, (examples,) int64."""
        if support.sites != self.sites or len(support) != len(indices):
            raise SupportMismatchError(
                f"{support!r} does not fit a store of {len(self.sites)} sites at {len(indices)} "
                "examples: a store keeps the supports of one model and one input size"
            )
        self.rows[indices.to(self.rows.device)] = support.rows.to(self.rows.device)
        self.written[indices.cpu()] = True

    def read(self, indices: Tensor, device: torch.device | str) -> Support:
        """Support of the examples of these indices, on a device; raises for rows never written."""
        missing = indices.cpu()[~self.written[indices.cpu()]]
        if len(missing):
            raise SupportMismatchError(
                f"no support was stored for example {int(missing[0])} (and {len(missing) - 1} more): "
                "a support stroke must see every example that a weight stroke visits"
            )
        rows = self.rows[indices.to(self.rows.device)]
        return Support(self.sites, rows.to(device, non_blocking=True))
