"""The protocol of a store: one row of packed bytes for each example."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import SupportMismatchError
from ..support import Site, Support


class Store(Protocol):
    """Keeps the supports of a fixed number of examples between a support stroke and the next.

    Rows are random access by number, 0 to `len(store) - 1`, and independent of each other: a support
    stroke may write them in any order, a weight stroke may read them in any other. Whoever owns only
    some of a data set's examples makes a store of that many rows and does the numbering.

    A support stroke is `begin`, then `write` until every row was written, then `publish`; what is read
    afterwards is that round.
    """

    @property
    def sites(self) -> Sequence[Site]:
        """Sites of every row, in order."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes that the rows of one round take."""
        ...

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def begin(self, round_: int, view: int, *, keep: bool = False) -> None:
        """A support stroke begins: what is written from here on is of this round and view.

        With `keep`, rows that are not written stay those of the round before, and `read` gives each as it
        stands now; otherwise nothing is to be read before `publish`.
        """
        ...

    def write(self, indices: Tensor, support: Support) -> None:
        """Keep `support`, whose examples have these indices, (examples,) int64."""
        ...

    def publish(self) -> None:
        """The stroke is over; raises `SupportMismatchError` where a row was never written."""
        ...

    def read(self, indices: Tensor, device: torch.device | str) -> Support:
        """Support of the examples of these indices, on a device; raises for rows never written."""
        ...

    def expect(self, batches: Iterable[Tensor]) -> None:
        """What is going to be read, in this order, if all goes well; a store may read ahead."""
        ...

    def reference(self) -> dict[str, Any] | None:
        """What a checkpoint may keep in place of the rows, or None where it must keep the rows.

        From here on the file that it names stays, until `settle` is called after another reference.
        """
        ...

    def settle(self) -> None:
        """The last reference is safe in a checkpoint: what earlier ones named may go."""
        ...

    def whole(self) -> Support:
        """Every row, in host memory or where the rows live."""
        ...

    def close(self) -> None:
        """Give back files and threads. What no reference names is deleted."""
        ...


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
