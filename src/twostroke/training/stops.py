"""Ctrl-C waits for the end of a step, so that what a step changes is changed wholly or not at all."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stops:
    """Signals that came within `step` are handled at its end; a second one is handled at once."""

    def __init__(self) -> None:
        self._within = False
        self._waiting: Callable[[], Any] | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """A block in which that holds of SIGINT and SIGTERM, where Python handles them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                before[number] = handler
                signal.signal(number, self._later(handler))
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _later(self, handler: Callable[..., Any]) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            if self._within and self._waiting is None:
                self._waiting = lambda: handler(number, None)
            else:
                handler(number, frame)

        return handle

    @contextmanager
    def step(self) -> Iterator[None]:
        """A step; what waited is handled at its end."""
        self._within = True
        try:
            yield
        finally:
            self._within = False
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting()
