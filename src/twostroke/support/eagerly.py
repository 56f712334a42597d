"""Compiled functions run eagerly within a block, where their compiled code would run past it."""

from __future__ import annotations

import re
import threading
import warnings
from typing import Any

import torch


class _Eagerly:
    """Compiled functions run eagerly while any thread is within the block.

    Blocks are counted, because the compiler has one stance for all threads. A compiled module warns that
    global hooks see it too: ours expect that. The filter is put into the list by hand, because
    `warnings.filterwarnings` would also make Python show every other warning again in each block.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self._stance: Any = None
        self._filters: list[Any] = []  # that in use when the first block began

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._stance = torch.compiler.set_stance("force_eager")
                self._stance.__enter__()
                self._filters = warnings.filters  # type: ignore[assignment]
                self._filters.insert(0, _EXPECTED)
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                self._stance.__exit__(None, None, None)
                if _EXPECTED in self._filters:
                    self._filters.remove(_EXPECTED)


_EXPECTED = ("ignore", re.compile(".*global hooks on modules"), UserWarning, None, 0)
compiled_runs_eagerly = _Eagerly()
