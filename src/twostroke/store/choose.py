"""Which kind of store fits, before any work is done."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from .._amounts import size
from ..errors import SettingsError, TooLargeError, unknown
from .base import MakeStore, Place, Store
from .file import FileStore
from .memory import MemoryStore

Kind = Literal["auto", "device", "host", "file"]
_WORDS = {"device": "device memory", "host": "host memory", "file": "a file"}


class Choice(NamedTuple):
    """A kind of store and, in one line, how much it takes and why it was picked."""

    kind: Kind
    why: str


class Free(NamedTuple):
    """Bytes that are free: of the model's device (None where that is the CPU), the host, the disk."""

    device: int | None
    host: int
    disk: int


def choose_store(kind: Kind, place: Place, free: Free) -> Choice:
    """Decide which kind keeps the masks; `TooLargeError` says how much there would have to be.

    "auto" takes the device, then host memory, where that leaves half of what is free to the training
    itself; then the disk, which must hold two rounds. A kind that is asked for by name may take all.
    """
    need = place.nbytes
    masks = f"{size(need)} of masks, {place.examples:,} examples of {size(place.row)}"
    room = {"device": free.device or 0, "host": free.host, "file": free.disk // 2}
    # on a CPU the device's memory is the host's
    room["device"] = free.host if kind == "device" and free.device is None else room["device"]
    told = ", ".join(
        f"{size(amount)} {where}"
        for amount, where in (
            (free.device, "on the device"),
            (free.host, "in host memory"),
            (free.disk, "on disk"),
        )
        if amount is not None
    )
    if kind != "auto":
        if need > room[kind]:
            where = (
                "on disk, where two rounds are kept" if kind == "file" else f"into {_WORDS[kind]}"
            )
            raise TooLargeError(
                f"{masks}, do not fit {where}. Free: {told}. Take another store ('auto' looks for one), "
                "fewer examples, or batch-wise alternation, which stores nothing"
            )
        return Choice(kind, f"{_WORDS[kind]} ({masks})")
    share = {"device": 0.5, "host": 0.5, "file": 1.0}
    order: tuple[Kind, ...] = ("device", "host", "file")
    for candidate in order:
        if need <= share[candidate] * room[candidate]:
            return Choice(candidate, f"{_WORDS[candidate]} ({masks}; free: {told})")
    raise TooLargeError(
        f"{masks}, fit nowhere. Free: {told}; masks may take half of it, because memory is needed for "
        f"training, and two rounds are kept on disk. Free {size(2 * need)} on a disk (store_path=... says "
        "which), take fewer examples, or batch-wise alternation, which stores nothing"
    )


def make_store(kind: Kind | MakeStore, place: Place) -> Store:
    """The store of that kind, or the one that a function of yours makes for the place.

    The store's `where` says in words which it is and why. Raises `TooLargeError` where the masks do not fit.
    """
    if not isinstance(kind, str):
        return kind(place)
    free = free_space(place.device, place.folder)
    choice = choose_store(
        kind, place, Free(free.device, free.host // place.here, free.disk // place.here)
    )
    store: Store
    if choice.kind == "file":
        store = FileStore(place)
        store.where = f"{choice.why}, in {store.folder}"
    else:
        store = MemoryStore(place, host=choice.kind == "host")
        store.where = choice.why
    return store


def check_kind(kind: object) -> None:
    """Raise `SettingsError` for what is neither a kind nor a function that makes a store."""
    kinds = ("auto", *_WORDS)
    if isinstance(kind, str) and kind not in kinds:
        raise SettingsError(unknown("store", kind, kinds))
    if not isinstance(kind, str) and not callable(kind):
        raise SettingsError(
            f"store is one of {', '.join(kinds)}, or a function that makes a Store for a Place, not {kind!r}"
        )


def free_space(device: torch.device, folder: Path | None) -> Free:
    """What is free now; on disk, files of a store in `folder` count as free, since they will go."""
    on_device = None
    if device.type == "cuda":
        on_device = torch.cuda.mem_get_info(device)[0]
    where = Path(tempfile.gettempdir()) if folder is None else folder.absolute()
    while not where.exists():
        where = where.parent
    own = sum(path.stat().st_size for path in where.glob("support-*.store")) if folder else 0
    return Free(on_device, _free_host(), shutil.disk_usage(where).free + own)


def _free_host() -> int:
    """Memory that can be had without swapping, under whatever limit this process runs."""
    free = [2**62]
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free.append(int(line.split()[1]) * 1024)
    limit, used = _lines("/sys/fs/cgroup/memory.max"), _lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].isdecimal():
        cache = [
            x.split()[1] for x in _lines("/sys/fs/cgroup/memory.stat") if x.startswith("file ")
        ]
        free.append(int(limit[0]) - int(used[0]) + sum(map(int, cache)))
    return max(0, min(free))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
