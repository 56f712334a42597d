"""Batches fetched ahead by worker processes, in an order that is announced."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import DataError

Fetch = Callable[[Tensor], tuple[Tensor, Tensor]]


class Ahead:
    """Worker processes that run `fetch(indices)` for announced batches, two each at a time.

    A batch that is asked for out of turn is not here; the announced ones keep their place. Workers
    start with the first announcement and stay until this is no longer referred to.
    """

    def __init__(self, fetch: Fetch, workers: int, *, pin: bool = False) -> None:
        self._turn = _Turn()
        self._loader: DataLoader[tuple[Tensor, Tensor] | str] = DataLoader(
            _Fetched(fetch),
            batch_size=None,  # a sample of ours is a batch
            sampler=self._turn,
            num_workers=workers,
            persistent_workers=True,
            pin_memory=pin,
        )
        self._coming: Iterator[tuple[Tensor, Tensor] | str] = iter(())

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Fetch these next, and forget what was announced before."""
        self._turn.batches = [indices.cpu() for indices in batches]
        self._turn.left = deque(self._turn.batches)
        self._coming = iter(self._loader) if self._turn.batches else iter(())

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor] | None:
        """The batch whose turn it is, if these are its indices, else None. Raises `DataError`."""
        if not self._turn.left or not torch.equal(self._turn.left[0], indices):
            return None
        self._turn.left.popleft()
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


class _Turn(Sampler[Tensor]):
    """Announced batches; `left` are those not yet taken."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []
        self.left: deque[Tensor] = deque()

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Fetched(Dataset[tuple[Tensor, Tensor] | str]):
    """Batches as items; what is wrong with one comes as a text, which arrives without a traceback."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor] | str:
        try:
            return self._fetch(indices)
        except DataError as error:
            return str(error)


def announce(
    source: object, batches: Iterable[Tensor], *, view: int | None = None, seed: int = 0
) -> None:
    """Tell a source which batches will be asked for next, and of which view, if it can use that."""
    expect = getattr(source, "expect", None)
    if expect is not None:
        expect(batches, view=view, seed=seed)
