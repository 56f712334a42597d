"""Files of weights that take less room where they have few bits, or are mostly zero.

safetensors with a checksum of all of it. Instead of `LAYER.weight` a quantised layer has `LAYER.weight.codes`,
`bits` bits a weight one after the other, and `LAYER.weight.scale`, one number a channel; a weight of which
more than half is zero has `NAME.there`, a bit a weight, and `NAME.values`, those that are not zero. The
header's JSON has the shape of each, and its bits (0 for zeros).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...errors import RunFolderError, SettingsError
from ...runs import load_weights, read_weights, save_weights
from .bits import few_bits
from .levels import check_bits, from_codes, multiples, pack_codes, to_codes, unpack_codes
from .zeros import join, mostly_zero, split

_FORMAT = "twostroke-weights"
_VERSION = 1


def save_packed(path: str | PathLike[str], model: nn.Module) -> None:
    """Write the weights of a model: a quantised one, before `finish`, a pruned one, or any other.

    Raises `SettingsError` for a layer with a parametrisation that is not of `quantise`, and `RunFolderError`
    where the file cannot be written.
    """
    write(Path(path), model, {})


def load_packed(path: str | PathLike[str], model: nn.Module) -> nn.Module:
    """Put weights that `save_packed` wrote into a plain `model` of the same shapes, and return it.

    They are equal, bit for bit, to those of `finish`. Raises `RunFolderError` for a file that is not there,
    damaged, something else, or of another model.
    """
    weights, _ = read(Path(path))
    load_weights(model, weights, Path(path))
    return model


def write(path: Path, model: nn.Module, metadata: Mapping[str, str]) -> None:
    """`save_packed`, with more entries in the header."""
    few = few_bits(model)
    for layer, module in model.named_modules():
        if parametrize.is_parametrized(module) and layer not in few:
            raise SettingsError(
                f"{layer}: its weight has a parametrisation that is not of quantise: remove it first, by "
                "torch.nn.utils.parametrize.remove_parametrizations"
            )
    tensors: dict[str, Any] = {}
    packed: dict[str, Any] = {}
    for name, value in model.state_dict().items():
        layer, quantised, _ = name.partition("parametrizations.weight.original")
        if quantised:
            name, bits = f"{layer}weight", few[layer.removesuffix(".")]
            odd, scale = multiples(value, bits)
            parts = {"codes": pack_codes(to_codes(odd.cpu(), bits), bits), "scale": scale.flatten()}
        elif isinstance(value, Tensor) and mostly_zero(value):
            bits = 0
            parts = dict(zip(("there", "values"), split(value.cpu()), strict=True))
        else:
            tensors[name] = value
            continue
        packed[name] = {"bits": bits, "shape": list(value.shape)}
        tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    text = json.dumps({"version": _VERSION, "packed": packed})
    save_weights(path, tensors, {**metadata, _FORMAT: text})


def read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Weights by name, all as floating point again, and the header; raises as `load_packed`."""
    tensors, metadata = read_weights(path)
    if _FORMAT not in metadata:
        raise RunFolderError(f"{path} holds no packed weights: save_packed did not write it")
    try:
        about = json.loads(metadata[_FORMAT])
        if about["version"] != _VERSION:
            raise RunFolderError(
                f"{path} has format {about['version']!r}, and this version of twostroke reads {_VERSION}"
            )
        for name, entry in about["packed"].items():
            bits, shape = entry["bits"], tuple(entry["shape"])
            if bits == 0:
                there, values = tensors.pop(f"{name}.there"), tensors.pop(f"{name}.values")
                tensors[name] = join(there, values, shape)
                continue
            check_bits(bits)
            codes, scale = tensors.pop(f"{name}.codes"), tensors.pop(f"{name}.scale")
            odd = from_codes(unpack_codes(codes, math.prod(shape), bits), bits, scale.dtype)
            tensors[name] = odd.view(shape) * scale.view(-1, *[1] * (len(shape) - 1))
    except RunFolderError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise RunFolderError(
            f"{path}: its header does not fit what the file holds: {error}"
        ) from error
    return tensors, metadata
