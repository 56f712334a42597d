"""Files of a run, written whole or not at all: text, and tensors with a checksum of all of it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .._files import replacing
from ..errors import RunFolderError
from .typed import joined, split

_CHECKSUM = "twostroke-checksum"
_STATE = "state"


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are not there; `RunFolderError` where that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{path} cannot be made: {error}") from error


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write safetensors and a checksum of all of it to a file beside, then put it in place.

    Raises `RunFolderError` where that fails.
    """
    plain: dict[str, Tensor] = {}
    storages = set()
    for name, tensor in tensors.items():
        t = tensor.detach().cpu().contiguous()
        place = t.untyped_storage().data_ptr()
        plain[name] = (
            t.clone() if place in storages else t
        )  # safetensors has none that share memory
        storages.add(place)
    metadata = metadata | {_CHECKSUM: str(checksum(plain, metadata))}
    try:
        with replacing(path) as partial:
            save_file(plain, partial, metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise RunFolderError(
            f"{path} could not be written ({error}); what was there before is untouched. Is the disk "
            "full or the folder read-only?"
        ) from error


def save_weights(path: Path, state: Mapping[str, Any], metadata: dict[str, str]) -> None:
    """Write a model's state_dict under its own names; what is no tensor goes into the header."""
    tensors, text = split(state)
    save_tensors(path, tensors, metadata | {_STATE: text})


def read_weights(path: Path, *, unchecked: bool = False) -> tuple[dict[str, Any], dict[str, str]]:
    """A state_dict that `save_weights` wrote, and metadata; raises as `read_tensors`."""
    tensors, metadata = read_tensors(path, unchecked=unchecked)
    try:
        return joined(tensors, metadata.pop(_STATE, None)), metadata
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise RunFolderError(f"{path} is damaged: its header makes no sense ({error})") from error


def save_text(path: Path, text: str) -> None:
    """Write text to a file beside, then put it in place; `RunFolderError` where that fails."""
    try:
        with replacing(path) as partial:
            partial.write_text(text)
    except OSError as error:
        raise RunFolderError(f"{path} could not be written: {error}") from error


def read_tensors(
    path: Path, *, unchecked: bool = False
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata that `save_tensors` wrote; `RunFolderError` where a bit of them differs.

    `unchecked` also takes a file without a checksum, from another program or an earlier version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        if isinstance(error, FileNotFoundError):
            raise RunFolderError(f"{path}: there is no such file") from None
        raise RunFolderError(
            f"{path} is not a file of this program, or damaged: {error}"
        ) from error
    told = metadata.pop(_CHECKSUM, None)
    if told is None and not unchecked:
        raise RunFolderError(
            f"{path} has no checksum: an earlier version wrote it, or it is damaged"
        )
    if told is not None and told != str(checksum(tensors, metadata)):
        raise RunFolderError(f"{path} is damaged: what it holds does not match its checksum")
    return tensors, metadata


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """CRC-32 of names, types, shapes and values, in the order of the names."""
    value = zlib.crc32(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        plain = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
        value = zlib.crc32(plain.data, value)
    return value
