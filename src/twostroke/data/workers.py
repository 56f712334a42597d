"""Worker processes that fetch announced batches ahead: torch's DataLoader, fed with whole batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import DataError

Fetch = Callable[[Tensor], tuple[Tensor, Tensor]]


class Workers:
    """Processes that run `fetch(indices)` for announced batches, two each at a time.

    Batches are handed out in the order that was announced; any other batch is not here, and the caller
    fetches it. The processes start with the first announcement and end with this object.
    """

    def __init__(self, fetch: Fetch, count: int, *, pin: bool = False) -> None:
        self._order: list[Tensor] = []  # the loader reads it at the start of every pass
        self._left: deque[Tensor] = deque()
        self._loader: DataLoader[tuple[Tensor, Tensor] | str] = DataLoader(
            _Batches(fetch),
            batch_size=None,  # an item is a batch already
            sampler=self._order,
            num_workers=count,
            persistent_workers=True,
            pin_memory=pin,
        )
        self._coming: Iterator[tuple[Tensor, Tensor] | str] = iter(())

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Fetch these next, and forget what was announced before."""
        self._order[:] = [indices.cpu() for indices in batches]
        self._left = deque(self._order)
        self._coming = iter(self._loader) if self._order else iter(())

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor] | None:
        """The next batch, if these are its indices, else None.

        Raises `DataError` if an item is bad, or a process has ended.
        """
        if not self._left or not torch.equal(self._left[0], indices):
            return None
        self._left.popleft()
        try:
            found = next(self._coming)
        except RuntimeError as error:
            raise DataError(
                f"a worker that fetches examples ended ({str(error).splitlines()[0]}): with too little "
                "memory, set fewer workers, or workers=0 to see what happens"
            ) from error
        if isinstance(found, str):
            raise DataError(found)
        return found


class _Batches(Dataset[tuple[Tensor, Tensor] | str]):
    """Batches as items. A `DataError` comes as its text: the loader would add a traceback to it."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor] | str:
        try:
            return self._fetch(indices)
        except DataError as error:
            return str(error)
