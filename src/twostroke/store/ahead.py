"""Reading ahead: a thread fetches the batches that were announced, while the step before runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor


class ReadAhead:
    """Fetches announced batches in one background thread, a few at a time.

    An announcement is a hint: what is asked for and was not announced is simply not here, and the
    caller reads it himself. Batches that were announced and left out are forgotten as soon as a later
    one is asked for. An error of the thread is raised where its batch is taken.
    """

    def __init__(self, fetch: Callable[[Tensor], Tensor], depth: int = 2) -> None:
        self._fetch = fetch
        self._depth = depth
        self._thread: ThreadPoolExecutor | None = None
        self._batches: Iterator[Tensor] = iter(())
        self._coming: deque[tuple[Tensor, Future[Tensor]]] = deque()

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Forget what was announced before, and begin with these."""
        self.forget()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="twostroke-read")
        self._batches = iter(batches)
        self._fill()

    def _fill(self) -> None:
        assert self._thread is not None
        while len(self._coming) < self._depth:
            batch = next(self._batches, None)
            if batch is None:
                return
            batch = batch.cpu().clone()  # the caller may go on using his
            self._coming.append((batch, self._thread.submit(self._fetch, batch)))

    def take(
        self,
        indices: Tensor,  # (examples,) on the CPU
    ) -> Tensor | None:
        """Rows of a batch that was announced and is on its way, or None."""
        for place, (batch, rows) in enumerate(self._coming):
            if torch.equal(batch, indices):
                for _ in range(place + 1):
                    self._coming.popleft()
                self._fill()
                return rows.result()
        return None

    def forget(self) -> None:
        """Nothing is announced any more; returns when the thread is at rest."""
        self._batches = iter(())
        for _, rows in self._coming:
            rows.cancel()
        for _, rows in self._coming:
            if not rows.cancelled():
                rows.exception()  # wait; an error of rows that nobody asked for is nobody's
        self._coming.clear()

    def close(self) -> None:
        """End the thread."""
        self.forget()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
