"""How far pre-activations are from where their units switch: positive on one side, negative on the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SettingsError, UnholdableError
from ..support import Site, sites
from ..support.activations import Activation, Clamp
from ..support.intercept import Intercept
from ..theory.affine import refuse_modules

_AT_ZERO = ("relu", "leaky_relu", "prelu")
TOLERANCE = 1e-12  # of the largest margin at a site: what is nearer to a wall counts as on it


def checked(model: nn.Module, *inputs: Tensor, pooling: bool) -> list[Site]:
    """The model's sites; raises where regions cannot be found exactly.

    `inputs` are single examples, without the batch. `SettingsError` for other types than float64, inputs
    that are not finite or of different shapes, and layers in training mode; `UnholdableError`
    for a model without sites, with normalisation by its input, or with switches whose walls are not known.
    """
    x = torch.stack(inputs) if len({i.shape for i in inputs}) == 1 else None
    if x is None:
        raise SettingsError(
            f"inputs of one shape are needed, not {', '.join(str(tuple(i.shape)) for i in inputs)}"
        )
    kinds = {p.dtype for p in model.parameters()} | {i.dtype for i in inputs}
    if kinds != {torch.float64}:
        raise SettingsError(
            "walls are found exactly in float64 only: model.double(), x.double(), not "
            + ", ".join(sorted(map(str, kinds)))
        )
    if not bool(x.isfinite().all()):
        raise SettingsError("an input is infinite or undefined: no line leads there")
    refuse_modules(model)
    found = sites(model, x, pooling=True)
    if not found:
        raise UnholdableError("this model has no switch, such as ReLU: it is one region")
    known = (*_AT_ZERO, "clamp", *(["max_pool"] if pooling else []))
    if other := [f"{s.key} ({s.kind})" for s in found if s.kind not in known]:
        raise UnholdableError(
            f"walls are known of {', '.join(known)}, not of {', '.join(other)}: where these switch, the "
            "network jumps, or neighbours are compared"
        )
    return found


def margins_of(act: Activation) -> Tensor:  # (batch, units), or (batch, 2 units) of a clamp
    """Affine in `q`; a unit is on its wall where a margin is 0."""
    q = act.q.flatten(1)
    if isinstance(act, Clamp):
        return torch.cat([q - end for end in (act.low, act.high) if math.isfinite(end)], 1)
    return q.clone() if act.inplace else q


class _Enough(Exception):
    """The last site that was asked for has been met."""


class _Look:
    """A handler that shows calls of some sites to a function and leaves the network live."""

    def __init__(self, sites: Sequence[Site], see: Callable[[Activation], Tensor]) -> None:
        self._sites, self._see = {s.key for s in sites}, see
        self.seen: list[Tensor] = []

    def begin(self) -> None:
        """A forward pass begins."""

    def handle(self, path: str, call: int, act: Activation, run: Callable[[], Any]) -> Any:
        """Show the call if it is of a site that was asked for."""
        if f"{path}#{call}" in self._sites:
            self.seen.append(self._see(act))
            if len(self.seen) == len(self._sites):
                raise _Enough
        return run()


def look(
    model: nn.Module,
    sites: Sequence[Site],
    x: Tensor,  # (batch, ...)
    see: Callable[[Activation], Tensor] = margins_of,
) -> list[Tensor]:
    """What `see` makes of the calls at some sites, in order; nothing behind them is computed."""
    handler = _Look(sites, see)
    with torch.no_grad(), suppress(_Enough), Intercept(model, handler, strict=False):
        model(x)
    return handler.seen
