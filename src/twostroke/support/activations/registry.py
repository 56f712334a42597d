"""Which functions are sites, and who reads their calls; `register` adds one from outside."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import SettingsError
from .base import Activation

Reader = Callable[..., Activation | None]
# what PyTorch may be called by, and who reads the arguments of the call
FUNCTIONS: dict[Callable[..., Any], Reader] = {}


def register(reader: Reader, *functions: Callable[..., Any]) -> None:
    """Make the calls of `functions` sites, of the kind that `reader` makes of them.

    `reader` gets the arguments of a call as they are, with two exceptions: `input=` comes first,
    without its name, and `inplace` comes only where it is true. It returns an `Activation`, or None
    for a call that is no site. Such a call runs as it is, and strict recording refuses it where it is
    non-linear. A subclass of `Activation` whose `__init__` takes these arguments is a reader itself.
    A call with `out=`, and one whose `q` is no floating tensor (batch, ...), is never a site.

    `functions` are PyTorch's own, under each name that a model may use (`torch.maximum` and
    `torch.Tensor.maximum` are two functions), or yours, a method of a class included. PyTorch shows
    nobody the calls of a plain Python function: decorate yours with
    `torch.overrides.wrap_torch_function(f)`, where `f` takes the same arguments and returns a tuple of
    the tensors among them. Register before the first `record`, `hold` or `compile_held`.

    Raises `SettingsError`, before anything is registered, for a function that another reader has, or
    whose calls PyTorch does not show.
    """
    for function in functions:
        name = _name(function)
        if not callable(function) or isinstance(function, type | nn.Module | MethodType):
            raise SettingsError(
                f"{name} is no function: register the function that is called where the switch stands, "
                "such as torch.maximum, torch.Tensor.maximum or one of your own"
            )
        if isinstance(function, FunctionType) and not _is_shown(function):
            raise SettingsError(
                f"PyTorch does not show the calls of {name}: decorate it with "
                "@torch.overrides.wrap_torch_function(lambda q: (q,)), where the lambda takes the "
                "arguments of the function and returns the tensors among them"
            )
        known = FUNCTIONS.get(function, reader)
        if known is not reader:
            raise SettingsError(
                f"{name} is registered already, with {_name(known)}: a function has one reader"
            )
    FUNCTIONS.update(dict.fromkeys(functions, reader))


def _name(function: Any) -> str:
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if name and "<locals>" in name:
        name = function.__name__
    return f"{module}.{name}" if module and name else name or repr(function)


def _is_shown(function: FunctionType) -> bool:
    return (function.__module__ or "").split(".")[0] == "torch" or (
        "handle_torch_function" in function.__code__.co_names
    )


def called(*names: str) -> list[Callable[..., Any]]:
    """PyTorch's functions of these names: in `torch`, `Tensor`, `torch.nn.functional`, and exported."""
    places = (torch, Tensor, F, torch._C._nn)
    found = [getattr(p, name) for name in names for p in places if hasattr(p, name)]
    return [*found, *(function for name in names for function in exported(name))]


def exported(name: str) -> list[Callable[..., Any]]:
    """What a model of `torch.export` calls instead of PyTorch's function of this name."""
    packet = getattr(torch.ops.aten, name, None)
    return [] if packet is None else [getattr(packet, kind) for kind in packet.overloads()]


def read(reader: Reader, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Activation | None:
    """The activation of a call, or None where it cannot be held."""
    if kwargs:
        if kwargs.get("out") is not None:
            return None
        # F.relu(x, inplace=True) and torch.relu_(x) are two functions, and only one takes `inplace`
        kwargs = {k: v for k, v in kwargs.items() if k != "out" and (k != "inplace" or v)}
        if "input" in kwargs:  # the name that PyTorch gives to what we call q
            args = (kwargs.pop("input"), *args)
    act = reader(*args, **kwargs)
    if act is None or not isinstance(act.q, Tensor):
        return None
    return act if act.q.is_floating_point() and act.q.ndim > 1 else None
