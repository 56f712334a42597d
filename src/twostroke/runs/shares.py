"""Supports in a run's folder: a file for each process, read again by any number of processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError

from ..errors import RunFolderError
from ..processes import Processes
from ..support import Support
from .files import checksum


def support_file(folder: Path, round_: int, index: int, count: int) -> Path:
    """Where process `index` of `count` keeps its examples' supports of a round."""
    share = f"-{index + 1}-of-{count}" if count > 1 else ""
    return folder / f"support-{round_}{share}.safetensors"


def save_share(support: Support, path: Path) -> None:
    """Write a process's supports; `RunFolderError` where the file cannot be written."""
    try:
        support.save(path)
    except (OSError, SafetensorError) as error:
        raise RunFolderError(
            f"{path} could not be written ({error}); the last checkpoint is untouched. Is the disk full "
            "or the folder read-only?"
        ) from error


def checksum_of(support: Support) -> int:
    """Checksum of masks and sites."""
    sites = {"sites": json.dumps([site.to_json() for site in support.sites])}
    return checksum({"rows": support.rows}, sites)


def load_share(
    folder: Path, round_: int, saved_by: int, processes: Processes, checksums: Sequence[int]
) -> Support:
    """Supports of this process's examples, in the order of its store's rows.

    Where the number of processes has changed, every process reads all files and takes its own rows. Raises
    `SupportFileError` for a file that is missing or holds no support, `RunFolderError` for one that does not
    match its checksum.
    """

    def load(k: int) -> Support:
        path = support_file(folder, round_, k, saved_by)
        support = Support.load(path)
        if checksum_of(support) != checksums[k]:
            raise RunFolderError(
                f"{path} does not hold the masks that the checkpoint refers to: it is damaged, or of "
                "another run"
            )
        return support

    if saved_by == processes.count:
        return load(processes.index)
    numbers, parts = [], []
    for k in range(saved_by):
        part = load(k)
        examples = k + saved_by * torch.arange(len(part))  # see `Processes`
        mine = examples % processes.count == processes.index
        numbers.append(examples[mine])
        parts.append(part[mine])
    whole = Support.cat(parts)
    return whole[torch.cat(numbers).argsort()]
