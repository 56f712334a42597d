"""Compiled functions run eagerly within a block, where their compiled code would run past it."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import torch


class _Eagerly:
    """Compiled functions run eagerly while any thread is within the block.

    Blocks are counted, because the compiler has one stance for all threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self._stance: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._stance = torch.compiler.set_stance("force_eager")
                self._stance.__enter__()
            self._within += 1
        expect_hooks()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                self._stance.__exit__(None, None, None)


compiled_runs_eagerly = _Eagerly()
_HOOKED = ".*global hooks on modules"


def expect_hooks() -> None:
    """Silence a compiled module's warning that global hooks see it too: ours expect that.

    For good. A filter that came and went with each block would make Python show every other warning
    again in each block.
    """
    first = warnings.filters[0] if warnings.filters else (None, None)
    if getattr(first[1], "pattern", None) != _HOOKED:
        warnings.filterwarnings("ignore", _HOOKED, UserWarning)
