"""The support stroke: record which units are on (eq. 12, 38, 41)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin

from .._generators import generators_kept
from ..errors import SettingsError, SupportMismatchError, UnholdableError
from .activations import Activation
from .intercept import Handler, Intercept
from .modules import unwrap
from .rules import Rule, planes_of
from .sites import Site
from .support import Support

Inputs = Tensor | tuple[Any, ...]


class Recorder:
    """Collects masks while a model runs; `support` has those of the last forward pass."""

    def __init__(self, rule: Rule | None, *, pooling: bool = False, gated: bool = False) -> None:
        self._rule = rule
        self._shared = bool(getattr(rule, "shared", False))
        if self._shared and pooling:
            raise SettingsError(
                "this rule gives one mask to a whole batch, and max pooling has an argmax for each "
                "example: the two do not fit in one support, so record with pooling=False"
            )
        self._pooling = pooling
        self._gated = gated
        self.sites: list[Site] = []  # in the order in which the last forward pass met them
        self._planes: list[list[Tensor]] = []

    @property
    def support(self) -> Support:
        """What the last forward pass within the block recorded."""
        if not self.sites:
            raise SupportMismatchError(
                "nothing was recorded: the model was not called, or made no call that can be held"
            )
        first = self._planes[0][0]
        for site, planes in zip(self.sites, self._planes, strict=True):
            if len(planes[0]) != len(first):
                raise UnholdableError(
                    f"{site.key} sees a batch of {len(planes[0])} where {self.sites[0].key} sees one of "
                    f"{len(first)}: a mask belongs to an example, so that every "
                    "site must keep the batch as its first dimension"
                )
        with torch.inference_mode(False):  # otherwise no backward pass could use them later
            rows = torch.cat([plane for planes in self._planes for plane in planes], dim=1)
        return Support(self.sites, rows, shared=self._shared)

    def begin(self) -> None:
        """A forward pass begins; forget the one before."""
        self.sites, self._planes = [], []

    def handle(self, path: str, call: int, act: Activation, run: Callable[[], Any]) -> Any:
        """Record one call; give what the function gives, or what the rule makes of it."""
        if not act.unitwise and not self._pooling:
            return run()
        rule = self._rule if act.unitwise else None
        with torch.no_grad():
            packed = act.own_packed() if rule is None else planes_of(rule, act)
        if self._shared and len(packed[0]) != 1:
            raise UnholdableError(
                f"{path}#{call} is a {act.kind}, where one mask for the whole batch cannot say "
                "which piece each example is on: hold the rule itself, hold(model, rule)"
            )
        self.sites.append(Site(path, call, act.kind, tuple(act.shape[1:]), len(packed)))
        self._planes.append(packed)
        if rule is None:
            return run()
        return act.gated(packed) if self._gated else act.held(packed)


@contextmanager
def recording(
    model: nn.Module,
    *,
    rule: Rule | None = None,
    pooling: bool = False,
    gated: bool = False,
    strict: bool = True,
) -> Iterator[Recorder]:
    """Record while you run the model yourself, with gradients if you like.

    ```python
    with ts.recording(model) as recorder:
        loss = loss_fn(model(x), y)
    support = recorder.support  # of the last forward pass
    ```
    Options and errors are those of `record`.
    """
    recorder = Recorder(rule, pooling=pooling, gated=gated)
    with Intercept(model, recorder, strict=strict):
        yield recorder


def record(
    model: nn.Module,
    x: Inputs,
    *,
    rule: Rule | None = None,
    pooling: bool = False,
    gated: bool = False,
    strict: bool = True,
) -> Support:
    """Support of a batch: one forward pass without gradient that leaves the model as it was.

    `x` is the model's input, (batch, ...), or a plain tuple of its positional arguments. Without a `rule`
    each activation's own rule is recorded (for ReLU `q > 0`), and `hold` right afterwards computes
    the same output, bit for bit. With a rule, the recorded network has the rule as its activation:
    `z = m ∘ q` goes on to the next layer, or `m ∘ ReLU(q)` if `gated`.
    `pooling=True` records the argmax of max pooling too, so that the held network is affine.

    The model stays in its mode. In training mode batch norm uses the batch's statistics; afterwards
    the running ones are put back, as every buffer is, also one that was resized or added. Dropout draws,
    and random generators are put back, so that the next forward pass draws the same.

    Raises `UnholdableError` for a model with non-linearities that cannot be held, with their names,
    unless `strict=False`, and `NestedHoldError` within a `hold` of the same model.
    """
    recorder = Recorder(rule, pooling=pooling, gated=gated)
    one_pass(model, x, recorder, strict=strict)
    return recorder.support


def sites(model: nn.Module, x: Inputs, *, pooling: bool = False, strict: bool = True) -> list[Site]:
    """Sites that `record` would find: path, call index, kind, shape. One forward pass of `x`.

    Raises what `record` raises. A model without any site gives an empty list.
    """
    recorder = Recorder(None, pooling=pooling)
    one_pass(model, x, recorder, strict=strict)
    return recorder.sites


def one_pass(model: nn.Module, x: Inputs, handler: Handler, *, strict: bool) -> None:
    """Run `model` on `x` without gradient, `handler` at its sites; buffers are put back."""
    with (
        torch.no_grad(),
        generators_kept(),
        buffers_kept(unwrap(model)),
        Intercept(model, handler, strict=strict),
    ):
        model(*x) if type(x) is tuple else model(x)


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Put the buffers that a forward pass changes, resizes, replaces or adds back at the end.

    Those of batch norm change in training mode alone, and are not copied in evaluation mode.
    """
    kept = [
        (
            module,
            dict(module._buffers),
            {n: b.clone() for n, b in module.named_buffers(recurse=False)},
        )
        for module in model.modules()
        if module._buffers and (module.training or not isinstance(module, _BatchNorm))
        if not isinstance(module, LazyModuleMixin)  # has no sizes yet, and may stop being lazy
    ]
    try:
        yield
    finally:
        for module, buffers, values in kept:
            for name, value in values.items():
                buffer = buffers[name]
                assert buffer is not None
                # through .data, because autograd may have saved the buffer and must see no change
                if buffer.shape == value.shape and buffer.dtype == value.dtype:
                    buffer.data.copy_(value)
                else:
                    buffer.data = value
            module._buffers.clear()
            module._buffers.update(buffers)
