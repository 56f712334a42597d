"""Where instance-wise supports live between strokes.

`base` what a store is · `memory` packed rows in device or host memory · `file` a folder with a file a
round: `rounds` writes, verifies and reads one, `layout` is its format · `choose` which of them fits.
"""

from .base import MakeStore, Place, Store
from .choose import Kind, check_kind, make_store
from .file import FileStore
from .layout import Origin
from .memory import MemoryStore

__all__ = [
    "FileStore",
    "Kind",
    "MakeStore",
    "MemoryStore",
    "Origin",
    "Place",
    "Store",
    "check_kind",
    "make_store",
]
