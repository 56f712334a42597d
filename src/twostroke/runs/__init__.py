"""A run's folder, and what is in it.

`folder` all of its files · `about` what the use of its model needs · `history` epoch by epoch · `checkpoint`
what a run needs to go on, with supports in `shares`, one a process · `files` tensors and text, written whole
or not at all · `lock` one process at a time · `versions` of the software.
"""

from .about import About
from .checkpoint import CHECKPOINT, Checkpoint
from .files import make_folder, read_tensors, save_tensors, save_text
from .folder import RunFolder, load_weights, read_toml
from .history import EpochRecord, History
from .lock import alone
from .versions import versions

__all__ = [
    "CHECKPOINT",
    "About",
    "Checkpoint",
    "EpochRecord",
    "History",
    "RunFolder",
    "alone",
    "load_weights",
    "make_folder",
    "read_tensors",
    "read_toml",
    "save_tensors",
    "save_text",
    "versions",
]
