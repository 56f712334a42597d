"""A model's modules: the user's own inside its wrappers, with their paths, and in sequence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..errors import UnholdableError


def unwrap(model: nn.Module) -> nn.Module:
    """The user's module inside what `torch.compile` and DistributedDataParallel put around it.

    Raises `UnholdableError` for forms that run where no Python can follow.
    """
    if not isinstance(model, nn.Module):
        raise UnholdableError(f"a model is a torch.nn.Module, not {type(model).__name__}")
    while True:
        if isinstance(model, nn.DataParallel):
            raise UnholdableError(
                "DataParallel runs copies of the model in other threads, where no support can be "
                "held: pass its .module, or use DistributedDataParallel"
            )
        if isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            break
    if isinstance(model, torch.jit.ScriptModule):
        raise UnholdableError(
            "a scripted or traced model runs outside of Python, where no call can be seen: "
            "pass the module that it was made from"
        )
    return model


def walk(model: nn.Module) -> dict[nn.Module, str]:
    """Every module with its path, without the segments that `torch.compile` adds.

    The order and the names of `named_modules`, in a third of its time: every block asks for them.
    """
    names: dict[nn.Module, str] = {}

    def visit(module: nn.Module, name: str) -> None:
        if module in names:
            return
        names[module] = name
        for key, child in module._modules.items():
            if child is not None:
                at = name if key == "_orig_mod" else f"{name}.{key}" if name else key
                visit(child, at)

    visit(model, "")
    return names


def in_sequence(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """What an `nn.Sequential` runs, one after another, with the paths that sites have.

    Nested `nn.Sequential`s are opened. A module that stands there twice comes twice, both times under its
    first path.
    """
    names = walk(model)

    def visit(module: nn.Module) -> Iterator[tuple[str, Any]]:
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            for child in module:
                yield from visit(child)
        else:
            yield names[module], module

    return visit(model)
