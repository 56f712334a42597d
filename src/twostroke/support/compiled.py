"""The weight stroke under `torch.compile`: one graph, into which the packed masks go as an input.

The compiler cannot follow modules by name as `hold` does. It need not: a support lists its sites in the order
in which the forward pass meets them. While the model is traced, a function mode answers the calls of
switching functions in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import NestedHoldError, SupportMismatchError, UnholdableError
from .activations import FUNCTIONS, read
from .intercept import is_followed
from .modules import unwrap
from .record import sites
from .support import Support

Place = tuple[str, tuple[int, ...], int, int]  # of a site: kind, shape, planes, bytes


class _InOrder(TorchFunctionMode):
    """Holds the calls of a forward pass: the first under the first masks, and so on."""

    def __init__(self, places: tuple[Place, ...], rows: Tensor, shared: bool) -> None:
        super().__init__()
        self._places = places
        self._shared = shared
        self._pooling = any(kind == "max_pool" for kind, _, _, _ in places)
        self._parts = rows.split([size for _, _, _, size in places], dim=1)
        self.met = 0  # sites so far

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        reader = FUNCTIONS.get(func)
        act = read(reader, args, kwargs) if reader is not None else None
        if act is None or not (act.unitwise or self._pooling):
            return func(*args, **kwargs)
        place, self.met = self.met, self.met + 1
        if place < len(self._places):
            kind, shape, planes, _ = self._places[place]
            part = self._parts[place]
            rows = self._shared or part.shape[0] == act.q.shape[0]
            if rows and kind == act.kind and shape == tuple(act.shape[1:]):
                return act.held(part.chunk(planes, dim=1))
        self.met += len(self._places)  # too many, by which `forward` sees that the masks do not fit
        return func(*args, **kwargs)


class CompiledHold:
    """What `compile_held` gives: call it with a support and the model's inputs."""

    def __init__(self, model: nn.Module, *, strict: bool = True, **options: Any) -> None:
        if isinstance(model, nn.parallel.DistributedDataParallel):
            raise UnholdableError(
                "the compiled weight stroke does not add up gradients over processes: hold the "
                "DistributedDataParallel model itself, which runs eagerly within the block"
            )
        self.model = unwrap(model)
        self._strict = strict
        self._options = options
        self._known: dict[Any, Callable[..., Any]] = {}

    def __call__(self, support: Support, *inputs: Any) -> Any:
        """Output of the model for `inputs`, (batch, ...) each, with `support` held (eq. 13).

        `support` is that of the batch, on its device, or shared by it. Raises `SupportMismatchError`
        where it does not fit, `UnholdableError` as `record` does, and `NestedHoldError` within a
        `hold` of the same model.
        """
        if is_followed(self.model):
            raise NestedHoldError(
                "this model is held or recorded already: leave that block first, the compiled "
                "weight stroke holds by itself"
            )
        first = next((t for t in inputs if isinstance(t, Tensor)), None)
        if first is None:
            raise UnholdableError("no input is a tensor: a mask belongs to an example of a batch")
        if support.device != first.device or not (support.shared or len(support) == len(first)):
            raise SupportMismatchError(
                f"the support is of {len(support)} examples on {support.device} and meets a batch "
                f"of {len(first)} on {first.device}: index it by the examples of the batch, "
                "support[indices], and move it by support.to(device)"
            )
        key = (support.sites, support.shared, self.model.training)
        if (forward := self._known.get(key)) is None:
            forward = self._known[key] = self._compile(support, inputs)
        try:
            return forward(support.rows, *inputs)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise UnholdableError(
                "the weight stroke of this model cannot be compiled: use hold, which runs it eagerly, "
                "or call switches by functions that the compiler shows: nn.ReLU, F.relu and torch.relu "
                "are shown; HardThreshold, and functions that work in place by name, such as torch.relu_ "
                f"and F.relu_, are not. The compiler says: {error}"
            ) from error

    def _compile(self, support: Support, inputs: tuple[Any, ...]) -> Callable[..., Any]:
        pooling = any(site.kind == "max_pool" for site in support.sites)
        found = tuple(sites(self.model, inputs, pooling=pooling, strict=self._strict))
        if found != support.sites:
            differ = [b.key for a, b in zip(found, support.sites, strict=False) if a != b]
            raise SupportMismatchError(
                f"the support has {len(support.sites)} sites and the model {len(found)}"
                + (f", which differ from {differ[0]} on" if differ else "")
                + ": record it from this model, in this mode, from inputs of this size"
            )
        model, shared = self.model, support.shared
        places = tuple((s.kind, s.shape, s.planes, s.nbytes) for s in support.sites)

        def forward(rows: Tensor, *inputs: Any) -> Any:
            mode = _InOrder(places, rows, shared)
            with mode:
                output = model(*inputs)
            if mode.met != len(places):
                raise UnholdableError("masks and calls do not belong together")
            return output

        # the compiler counts recompilations by code object, so that each must have its own
        code = forward.__code__.replace()
        own = FunctionType(code, forward.__globals__, "held_forward", None, forward.__closure__)
        return torch.compile(own, fullgraph=True, **self._options)


def compile_held(model: nn.Module, *, strict: bool = True, **options: Any) -> CompiledHold:
    """A weight stroke that is compiled: `held(support, x)` is `model(x)` within `hold(model, support)`.

    ```python
    held = ts.compile_held(model)
    support = ts.record(model, x)
    loss_fn(held(support, x), y).backward()
    ```
    The packed masks are an input of the compiled code. Masks of another batch compile nothing again; a
    batch of another size does so once. There are no graph breaks. `options` are those of
    `torch.compile`, without `fullgraph`. Before it is compiled, the model runs once without gradient,
    to see that the support fits. Parameters are the model's own, and the model is not changed.
    `strict=False` leaves what cannot be held as it is. It takes supports from `record`: no rules, and
    no `gated`.

    Raises `UnholdableError` for a DistributedDataParallel model. The first call raises it also where
    `hold` would, where the compiler does not support the model, and where the compiler does not show
    every switching call (`HardThreshold`, and functions that work in place by name, such as
    `torch.relu_`).
    """
    return CompiledHold(model, strict=strict, **options)
