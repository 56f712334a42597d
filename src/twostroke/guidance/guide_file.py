"""The file of a guide: safetensors with a header that holds a checksum of every block.

Tensors: `rows`, `outputs` where there are any, and `places.N` for each sampled site, by its number. The
header's JSON has sites and what else the guide says of itself, and CRC-32 of each block of 8 MiB of each
tensor; its own digest stands beside it. Tensors are memory-mapped: what is not read takes no memory.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .._files import replacing
from ..errors import StoreError, SupportFileError

_FORMAT = "twostroke-guide"
_VERSION = 1
_BLOCK = 1 << 23


def write(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write a guide; a file already there is replaced whole or not at all. Raises `StoreError`."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    blocks = {name: _checksums(tensor) for name, tensor in tensors.items()}
    text = json.dumps({"version": _VERSION, **about, "blocks": blocks})
    try:
        with replacing(path) as partial:
            save_file(dict(tensors), partial, metadata={_FORMAT: text, "digest": _digest(text)})
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"{path} could not be written ({getattr(error, 'strerror', None) or error}): is the folder there, "
            f"and has it room for {sum(t.nbytes for t in tensors.values()) / 1e6:,.1f} MB?"
        ) from error


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and JSON of a guide, verified; `SupportFileError` names the file and what is off."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if _FORMAT not in metadata:
                raise SupportFileError(f"{path} is no guide: Guide.save did not write it")
            text = metadata[_FORMAT]
            if metadata.get("digest") != _digest(text):
                raise SupportFileError(f"{path} is damaged: its header is altered")
            about = json.loads(text)
            if about["version"] != _VERSION:
                raise SupportFileError(
                    f"{path}: guide format {about['version']!r}, this version of twostroke reads {_VERSION}"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for name, known in dict(about["blocks"]).items():
            _compare(path, name, tensors[name], known)
    except FileNotFoundError:
        raise SupportFileError(f"{path}: there is no such file") from None
    except SupportFileError:
        raise
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise SupportFileError(
            f"{path} is not a guide that Guide.save wrote, or is damaged: {error}"
        ) from error
    return tensors, about


def _compare(path: Path, name: str, tensor: Tensor, known: list[int]) -> None:
    found = _checksums(tensor)
    wrong = [i for i, (a, b) in enumerate(zip(found, known, strict=False)) if a != b]
    if wrong or len(found) != len(known):
        raise SupportFileError(
            f"{path} is damaged: {len(wrong) or 'some'} of {len(known)} blocks of its {name} do not match "
            "their checksums"
        )


def _checksums(tensor: Tensor) -> list[int]:
    if not tensor.numel():
        return []
    data = memoryview(tensor.numpy().reshape(-1)).cast("B")  # type: ignore[arg-type]
    return [zlib.crc32(data[k : k + _BLOCK]) for k in range(0, len(data), _BLOCK)]


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
