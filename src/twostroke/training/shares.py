"""Supports in a run's folder: a file for each process, read again by any number of processes."""

from __future__ import annotations

from pathlib import Path

import torch

from ..alternation import Processes
from ..support import Support


def support_file(folder: Path, round_: int, index: int, count: int) -> Path:
    """Where process `index` of `count` keeps its examples' supports of a round."""
    share = f"-{index + 1}-of-{count}" if count > 1 else ""
    return folder / f"support-{round_}{share}.safetensors"


def load_share(folder: Path, round_: int, saved_by: int, processes: Processes) -> Support:
    """Supports of this process's examples, in the order of its store's rows.

    Where the number of processes is another than it was, every file is read in turn and the rows
    cut anew; each process must then see all of the files. Raises `SupportFileError`.
    """
    files = [support_file(folder, round_, k, saved_by) for k in range(saved_by)]
    if saved_by == processes.count:
        return Support.load(files[processes.index])
    numbers, parts = [], []
    for k, file in enumerate(files):
        part = Support.load(file)
        examples = k + saved_by * torch.arange(len(part))  # see `Processes`
        mine = examples % processes.count == processes.index
        numbers.append(examples[mine])
        parts.append(part[mine])
    whole = Support.cat(parts)
    return whole[torch.cat(numbers).argsort()]
