"""What a store is: one row of packed bytes for each example."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import SupportMismatchError
from ..support import Site, Support
from ..support.sites import row_bytes
from .layout import NOWHERE, Origin


@dataclass(frozen=True)
class Place:
    """What a store is made for: `examples` rows of the masks of `sites`, for a model on `device`.

    folder: where files go that must outlive the run; None where nothing must.
    origin: what the masks are of, so that files of other masks can be refused.
    here: how many processes of this machine make a store of this size.
    """

    sites: tuple[Site, ...]
    examples: int
    device: torch.device
    folder: Path | None = None
    origin: Origin = NOWHERE
    here: int = 1

    @property
    def row(self) -> int:
        """Bytes of one example's masks."""
        return row_bytes(self.sites)

    @property
    def nbytes(self) -> int:
        """Bytes of all masks."""
        return self.examples * self.row


class Store(ABC):
    """Keeps the supports of a fixed number of examples between one support stroke and the next.

    Rows have numbers, 0 to `len(store) - 1`. A support stroke is `begin`, then `write` until every row
    was written, in any order, then `publish`. What is read afterwards, in any order, is that round.
    Whoever owns only some of a data set's examples makes a store of that many rows and does the numbering.

    A store of your own overrides what is abstract here, and more where it keeps files.
    """

    sites: tuple[Site, ...]
    where = "a store of your own"  # in words, for the note before training

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @abstractmethod
    def begin(self, round_: int, view: int) -> None:
        """A support stroke begins: what is written from here on is of this round and view."""

    @abstractmethod
    def write(self, indices: Tensor, support: Support) -> None:
        """Keep `support`, whose examples have these indices, (examples,) int64."""

    @abstractmethod
    def publish(self) -> None:
        """The stroke is over; raises `SupportMismatchError` where a row was never written."""

    @abstractmethod
    def read(self, indices: Tensor, device: torch.device | str) -> Support:
        """Support of the examples of these indices, on a device; raises for rows never written."""

    def expect(self, batches: Iterable[Tensor]) -> None:
        """What is going to be read, in this order, if all goes well; a store may read ahead."""

    # -- files and checkpoints: only for stores that keep files ----------------------------------

    def check_vacant(self) -> None:
        """Raise `StoreError` where files of another run are where this one's are to go."""

    def reference(self) -> dict[str, Any] | None:
        """What a checkpoint may keep instead of the rows, with a "digest"; None: it keeps the rows.

        From here on the file that it names stays, until `settle` is called after another reference.
        """
        return None

    def settle(self) -> None:
        """The last reference is safe in a checkpoint: what earlier ones named may go."""

    def reopen(self, reference: Mapping[str, Any] | None) -> None:
        """Go on with what `reference` gave; None: with nothing, the run is before its first round."""

    def discard(self) -> None:
        """Delete this run's files."""

    def close(self) -> None:
        """Give back files and threads. What no reference names is deleted."""


MakeStore = Callable[[Place], Store]


def check_fits(sites: Sequence[Site], indices: Tensor, support: Support) -> None:
    """Raise `SupportMismatchError` unless a support is of these sites and as many examples."""
    if support.sites != tuple(sites) or len(support) != len(indices):
        raise SupportMismatchError(
            f"{support!r} does not fit a store of {len(sites)} sites at {len(indices)} "
            "examples: a store keeps the supports of one model and one input size"
        )


def check_written(missing: Tensor) -> None:
    """Raise `SupportMismatchError` when there are numbers of examples that were never written."""
    if len(missing):
        raise SupportMismatchError(
            f"no support was stored for example {int(missing[0])} (and {len(missing) - 1} more): "
            "a support stroke must see every example that a weight stroke visits"
        )
