"""The protocol of a store: one row of packed bytes for each example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..support import Site, Support


class Store(Protocol):
    """Keeps the supports of a fixed number of examples between a support stroke and the next.

    Rows are random access by example index, and independent of each other: a support stroke may write
    them in any order, a weight stroke may read them in any other.
    """

    @property
    def sites(self) -> Sequence[Site]:
        """Sites of every row, in order."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes that the rows take."""
        ...

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def write(self, indices: Tensor, support: Support) -> None:
        """Keep `support`, whose examples have these indices, (examples,) int64."""
        ...

    def read(self, indices: Tensor, device: torch.device | str) -> Support:
        """Support of the examples of these indices, on a device; raises for rows never written."""
        ...
