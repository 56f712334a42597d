"""Reading ahead: a thread fetches the batches that were announced, while the steps before them run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch
from torch import Tensor


class ReadAhead:
    """Fetches announced batches in a thread, a few at a time.

    An announcement is a hint: a batch that was not announced is not here, and the caller reads it.
    Announced batches that are left out are forgotten when a later one is taken. An error of the thread
    is raised where its batch is taken.
    """

    def __init__(
        self, fetch: Callable[[Tensor], Tensor], thread: ThreadPoolExecutor, depth: int = 2
    ) -> None:
        self._fetch = fetch
        self._thread = thread
        self._depth = depth
        self._batches: Iterator[Tensor] = iter(())
        self._coming: deque[tuple[Tensor, Future[Tensor]]] = deque()

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Forget what was announced before, and begin with these."""
        self.forget()
        self._batches = iter(batches)
        self._fill()

    def _fill(self) -> None:
        while len(self._coming) < self._depth:
            batch = next(self._batches, None)
            if batch is None:
                return
            batch = batch.cpu().clone()  # the caller may change his later
            self._coming.append((batch, self._thread.submit(self._fetch, batch)))

    def take(
        self,
        indices: Tensor,  # (examples,) on the CPU
    ) -> Tensor | None:
        """Rows of a batch that was announced and is being fetched, or None."""
        for place, (batch, rows) in enumerate(self._coming):
            if torch.equal(batch, indices):
                for _ in range(place + 1):
                    self._coming.popleft()
                self._fill()
                return rows.result()
        return None

    def forget(self) -> None:
        """Drop all announcements, and return when nothing is being fetched."""
        self._batches = iter(())
        for _, rows in self._coming:
            rows.cancel()
        wait([rows for _, rows in self._coming])
        self._coming.clear()
