"""Where instance-wise supports live between strokes.

`base` the protocol that a store keeps · `memory` packed rows in device or host memory.
"""

from .base import Store
from .memory import MemoryStore

__all__ = ["MemoryStore", "Store"]
