"""One process at a time in a run's folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import RunFolderError

try:
    import fcntl
except ImportError:  # a system without such locks
    fcntl = None  # type: ignore[assignment]

_mine: dict[tuple[Path, int], int] = {}  # the lock of each folder and thread


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Within the block no other run may be in the folder; `RunFolderError` where one is.

    The lock is the system's, on the folder itself: it goes with its process, however that ends, and leaves no
    file. The block may stand within another one of the same thread. A folder that is not there, and a disk
    that knows no locks, are not guarded.
    """
    key = folder.absolute(), threading.get_ident()
    if fcntl is None or key in _mine or not folder.is_dir():
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFolderError(
                f"another process is at work in {folder}: wait until it ends, stop it, or choose another folder"
            ) from None
        except OSError:  # a disk that knows no locks
            pass
        _mine[key] = handle
        yield
    finally:
        _mine.pop(key, None)
        os.close(handle)


def _forget() -> None:
    """In a forked child, such as a worker that loads images: it must not keep the lock of its parent."""
    for handle in _mine.values():
        os.close(handle)
    _mine.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
