"""Where instance-wise supports live between strokes.

`base` the protocol that a store keeps · `memory` packed rows in device or host memory · `file` a folder
with a file a round: `rounds` writes, verifies and reads one, `layout` is its format · `choose` which of
them fits.
"""

from .base import Store
from .choose import Choice, Free, Kind, check_kind, choose_store, make_store
from .file import FileStore
from .layout import Origin
from .memory import MemoryStore

__all__ = [
    "Choice",
    "FileStore",
    "Free",
    "Kind",
    "MemoryStore",
    "Origin",
    "Store",
    "check_kind",
    "choose_store",
    "make_store",
]
