"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SUFFIX = ".partial"


def beside(path: Path) -> Path:
    """A name next to `path` that no other process and no other thread writes to."""
    return path.with_name(f"{path.name}.{os.getpid()}-{threading.get_native_id()}{_SUFFIX}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write; when the block ends well it is on disk and takes its place.

    Whatever happens, `path` holds either what it held before or what was written, never a part of it.
    """
    partial = beside(path)
    try:
        partial.touch()  # with the mode that the umask gives; safetensors writes files for their owner alone
        mode = partial.stat().st_mode
        yield partial
        if partial.stat().st_mode != mode:
            partial.chmod(mode)
        put(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def put(partial: Path, path: Path) -> None:
    """Let a written file take the place of another, after its bytes have reached the disk."""
    handle = os.open(partial, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    partial.replace(path)
    with suppress(OSError):  # the name itself; not every system lets a folder be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def sweep_partials(folder: Path, pattern: str = "*") -> None:
    """Remove what killed processes left half-written in a folder; of living ones nothing."""
    for partial in folder.glob(pattern + _SUFFIX):
        process = partial.name.removesuffix(_SUFFIX).rpartition(".")[2].partition("-")[0]
        if process.isdecimal() and not _alive(int(process)):
            partial.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # of somebody else
        return True
    return True
