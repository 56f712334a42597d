"""State as JSON and named tensors, so that it comes back equal: types that JSON loses are written out.

What comes back is equal, types included: tuples, keys that are numbers, `Counter`, a state_dict's metadata.
Functions are not kept; they come from the object that the state is given back to. Nothing is ever unpickled.
"""

from __future__ import annotations

import base64
import json
import types
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SettingsError

_TAG = "$"  # marks a JSON object that stands for something else than a dict of texts
_LISTED = {"tuple": tuple, "set": set, "frozenset": frozenset, "size": torch.Size}
_PAIRED = {"dict": dict, "ordered": OrderedDict, "counter": Counter}
_FUNCTIONS = (
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    types.WrapperDescriptorType,
    type,
)
_UNSAFE = {torch.complex128, torch.complex32}  # which safetensors does not have


def pack(value: Any, tensors: dict[str, Tensor], at: str) -> Any:
    """What JSON can write of `value`; its tensors go into `tensors`, under names that begin with `at`.

    Raises `SettingsError` that names what cannot be kept, by its place.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if isinstance(value, float):  # NumPy's, which is equal
        return float(value)
    if kind is list:
        return [pack(one, tensors, f"{at}.{k}") for k, one in enumerate(value)]
    if isinstance(value, Tensor):
        return _pack_tensor(value, tensors, at)
    for name, listed in _LISTED.items():
        if kind is listed:
            return {_TAG: name, "of": [pack(v, tensors, f"{at}.{k}") for k, v in enumerate(value)]}
    for name, paired in _PAIRED.items():
        if kind is paired:
            return _pack_pairs(name, value, tensors, at)
    if kind is bytes:
        return {_TAG: "bytes", "of": base64.b64encode(value).decode()}
    if kind is complex:
        return {_TAG: "complex", "of": [value.real, value.imag]}
    if kind in (torch.dtype, torch.device):
        return {_TAG: kind.__name__, "of": str(value).removeprefix("torch.")}
    if isinstance(value, _FUNCTIONS):
        return {_TAG: "function"}
    raise SettingsError(
        f"a checkpoint cannot keep {at}, which is a {kind.__module__}.{kind.__qualname__}: let its state_dict "
        "give tensors, numbers, text, and lists, tuples, sets and dictionaries of them, or train without a "
        "folder"
    )


def _pack_tensor(value: Tensor, tensors: dict[str, Tensor], at: str) -> dict[str, Any]:
    odd = value.layout is not torch.strided or value.is_quantized or value.dtype in _UNSAFE
    if odd or value.is_meta:
        what = f"{value.dtype}, {value.layout}, on {value.device}"
        raise SettingsError(f"a checkpoint cannot keep the tensor {at} ({what})")
    name = at
    while name in tensors:
        name += "'"
    tensors[name] = value
    of: dict[str, Any] = {_TAG: "tensor", "of": name}
    if isinstance(value, nn.Parameter):
        of["grad"] = value.requires_grad
    return of


def _pack_pairs(kind: str, value: Mapping[Any, Any], tensors: dict[str, Tensor], at: str) -> Any:
    metadata = getattr(value, "_metadata", None)  # of a state_dict
    if kind == "dict" and _TAG not in value and all(type(key) is str for key in value):
        return {key: pack(one, tensors, f"{at}.{key}") for key, one in value.items()}
    pairs = [
        [pack(key, tensors, f"{at} (a key)"), pack(one, tensors, f"{at}.{key}")]
        for key, one in value.items()
    ]
    told = {_TAG: kind, "of": pairs}
    return (
        told if metadata is None else told | {"metadata": pack(metadata, tensors, f"{at} metadata")}
    )


def unpack(told: Any, tensors: Mapping[str, Tensor], now: Any = None) -> Any:
    """Undo `pack`; functions are those at the same place of `now`.

    Raises `KeyError`, `TypeError`, `ValueError` or `AttributeError` for what `pack` did not make.
    """
    if isinstance(told, list):
        return [unpack(one, tensors, _at(now, k)) for k, one in enumerate(told)]
    if not isinstance(told, dict):
        return told
    if _TAG not in told:
        return {key: unpack(one, tensors, _at(now, key)) for key, one in told.items()}
    kind: str = told[_TAG]
    of: Any = told.get("of")
    if kind in _LISTED:
        return _LISTED[kind](unpack(one, tensors, _at(now, k)) for k, one in enumerate(of))
    if kind in _PAIRED:
        keys = [unpack(key, tensors) for key, _ in of]
        values = [unpack(one, tensors, _at(now, k)) for k, (_, one) in zip(keys, of, strict=True)]
        made = _PAIRED[kind](zip(keys, values, strict=True))
        if kind == "counter":  # which would count the pairs
            made = Counter(dict(zip(keys, values, strict=True)))
        if "metadata" in told:
            made._metadata = unpack(told["metadata"], tensors)
        return made
    if kind == "tensor":
        tensor = tensors[of]
        return nn.Parameter(tensor, told["grad"]) if "grad" in told else tensor
    if kind == "bytes":
        return base64.b64decode(of)
    if kind == "complex":
        return complex(*of)
    if kind == "device":
        return torch.device(of)
    if kind == "dtype" and isinstance(found := getattr(torch, of), torch.dtype):
        return found
    if kind == "function":
        return now
    raise ValueError(f"there is no {kind!r} in a state")


def _at(now: Any, key: Any) -> Any:
    """The entry of what is there now, where it has one."""
    try:
        return now[key]
    except (KeyError, IndexError, TypeError):
        return None


def split(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """A model's state_dict as tensors by its own names, and a text of what modules add to it."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    rest = OrderedDict((name, value) for name, value in state.items() if name not in tensors)
    if hasattr(state, "_metadata"):
        rest._metadata = state._metadata  # type: ignore[attr-defined]
    more: dict[str, Tensor] = {}
    text = json.dumps(pack(rest, more, ""))
    return tensors | more, text


def joined(tensors: dict[str, Tensor], text: str | None) -> dict[str, Any]:
    """Undo `split`; without the text, the tensors. Raises as `unpack` does."""
    if text is None:
        return tensors
    rest = unpack(json.loads(text), tensors)
    state = OrderedDict((k, v) for k, v in tensors.items() if not k.startswith("."))
    state.update(rest)
    if hasattr(rest, "_metadata"):
        state._metadata = rest._metadata  # type: ignore[attr-defined]
    return state
