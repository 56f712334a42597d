"""A run's folder, and what is in it.

`folder` all of its files · `about` what the use of its model needs, `ready` that model · `history` epoch
by epoch · `checkpoint` what a run needs to go on, with supports in `shares`, one a process, and the `part` of
an epoch under way · `changes` what may differ then · `typed` state as JSON and tensors · `files` tensors and
text, written whole or not at all · `lock` one process at a time · `versions` of the software.
"""

from .about import About
from .changes import changes, in_words
from .checkpoint import CHECKPOINT, DIVERGED, WITHIN, Checkpoint, resumable
from .files import (
    make_folder,
    read_tensors,
    read_weights,
    save_tensors,
    save_text,
    save_weights,
)
from .folder import RunFolder, load_weights, read_toml
from .history import EpochRecord, History
from .lock import alone
from .part import Part
from .ready import load
from .versions import versions

__all__ = [
    "CHECKPOINT",
    "DIVERGED",
    "WITHIN",
    "About",
    "Checkpoint",
    "EpochRecord",
    "History",
    "Part",
    "RunFolder",
    "alone",
    "changes",
    "in_words",
    "load",
    "load_weights",
    "make_folder",
    "read_tensors",
    "read_toml",
    "read_weights",
    "resumable",
    "save_tensors",
    "save_text",
    "save_weights",
    "versions",
]
