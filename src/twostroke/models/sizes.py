"""What a network that was made narrower has of other sizes than its class builds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SettingsError

Sizes = dict[str, dict[str, Any]]  # module path → attribute → whole number, or several


def sizes(student: nn.Module, wide: nn.Module) -> Sizes:
    """Attributes of modules, such as `out_channels`, that differ from those of the wide network.

    Raises `SettingsError` where the two do not have the same modules.
    """
    modules, found = dict(wide.named_modules()), {}
    for path, module in student.named_modules():
        if type(module) is not type(modules.pop(path, None)):
            raise SettingsError(
                f"{path}: {type(module).__name__} is not what the student's model has there: name the model, "
                "classes, in_channels and options that the student was made from"
            )
        there = _whole(wide.get_submodule(path))
        if other := {k: v for k, v in _whole(module).items() if there.get(k, v) != v}:
            found[path] = other
    if modules:
        raise SettingsError(
            f"the student has no {next(iter(modules))}, which its model has: name the model, classes, "
            "in_channels and options that the student was made from"
        )
    return found


def resize(wide: nn.Module, found: Sizes, weights: Mapping[str, Tensor]) -> None:
    """Give a wide network these sizes, and room for these weights, in place.

    Raises `LookupError`, `TypeError` or `AttributeError` for sizes of something else.
    """
    for path, attributes in found.items():
        module = wide.get_submodule(path)
        known = _whole(module)
        for name, value in attributes.items():
            value = tuple(value) if isinstance(value, list) else value
            if type(known[name]) is not type(value):
                raise TypeError(f"{path}.{name} cannot be {value!r}")
            setattr(module, name, value)
    for name, value in weights.items():
        path, _, leaf = name.rpartition(".")
        module = wide.get_submodule(path)
        if leaf in module._parameters:
            module._parameters[leaf] = nn.Parameter(torch.empty_like(value))
        elif leaf in module._buffers:
            module._buffers[leaf] = torch.empty_like(value)


def _whole(module: nn.Module) -> dict[str, Any]:
    """Attributes that are whole numbers, or several of them."""
    return {
        name: value
        for name, value in vars(module).items()
        if type(value) is int
        or (type(value) is tuple and value and all(type(n) is int for n in value))
    }
