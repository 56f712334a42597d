"""Files of weights of which some have few bits: these are written as codes and scales.

safetensors with a checksum of all of it. Each quantised layer has `LAYER.weight.codes`, `bits` bits a weight one
after the other, and `LAYER.weight.scale`, one number a channel, instead of `LAYER.weight`. The header's
JSON has bits and shape of each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...errors import RunFolderError, SettingsError
from ...runs import load_weights, read_tensors, save_tensors
from .bits import few_bits
from .levels import check_bits, decode, encode, pack_codes, unpack_codes

_FORMAT = "twostroke-weights"
_VERSION = 1


def save_packed(path: str | PathLike[str], model: nn.Module) -> None:
    """Write the weights of a quantised model, before `finish`; those of few bits take as many bits.

    A model without quantised layers is written in full. Raises `SettingsError` for a layer with another
    parametrisation, and `RunFolderError` where the file cannot be written.
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
    tensors = dict(model.state_dict())
    packed = {}
    for layer, bits in few_bits(model).items():
        prefix = f"{layer}." if layer else ""
        weight: Tensor = tensors.pop(f"{prefix}parametrizations.weight.original")
        codes, scale = encode(weight, bits)
        tensors[f"{prefix}weight.codes"] = pack_codes(codes.cpu(), bits)
        tensors[f"{prefix}weight.scale"] = scale.flatten()
        packed[f"{prefix}weight"] = {"bits": bits, "shape": list(weight.shape)}
    for layer, module in model.named_modules():
        if parametrize.is_parametrized(module) and layer not in few_bits(model):
            raise SettingsError(
                f"{layer}: its weight has a parametrisation that is not of quantise: remove it first, by "
                "torch.nn.utils.parametrize.remove_parametrizations"
            )
    text = json.dumps({"version": _VERSION, "packed": packed})
    save_tensors(path, tensors, {**metadata, _FORMAT: text})


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights by name, all as floating point again, and the header; raises as `load_packed`."""
    tensors, metadata = read_tensors(path)
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
            check_bits(bits)
            codes, scale = tensors.pop(f"{name}.codes"), tensors.pop(f"{name}.scale")
            codes = unpack_codes(codes, math.prod(shape), bits).view(shape)
            tensors[name] = decode(codes, scale.view(-1, *[1] * (len(shape) - 1)), bits)
    except RunFolderError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise RunFolderError(
            f"{path}: its header does not fit what the file holds: {error}"
        ) from error
    return tensors, metadata
