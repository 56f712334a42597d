"""What is known of each switching function: its pieces, its own rule, and how it is held.

A call of a piecewise-linear function is read into an `Activation`. Each kind says which piece every
unit is on (`own`), and computes its output for given pieces (`held`). `FUNCTIONS` maps the
functions that PyTorch may be called by to the reader of their arguments.
"""
# ruff: noqa: D102 (each kind's docstring says what its methods do; `Activation` declares them)

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from . import bits, kernels
from .hard_threshold import as_channels, hard_threshold


class _Held(Function):
    """`m ∘ q` (or `slope * q` off the mask) that keeps nothing but the packed bits for backward."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, packed: Tensor, slope: float, inplace: bool) -> Tensor:
        z = bits.select(q, packed, slope=slope, out=q if inplace else None)
        _keep(ctx, (q, packed, slope, inplace), z)
        return z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (packed,) = ctx.saved_tensors
        if ctx.layout:  # as in ReLU, the gradient takes the layout of q
            grad = grad.contiguous(memory_format=ctx.layout)
        return select(grad, packed, slope=ctx.slope), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        (packed,) = ctx.saved_tensors
        return select(tangent, packed, slope=ctx.slope, inplace=ctx.inplace)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    q, packed, ctx.slope, ctx.inplace = inputs
    ctx.layout = None if q.is_contiguous() else kernels.channels_last(q)
    if ctx.inplace:
        ctx.mark_dirty(q)
    ctx.save_for_backward(packed)
    ctx.save_for_forward(packed)


class _HeldInTransforms(Function):
    """The same in the form that torch.func asks for.

    Not used outside of its transforms: there PyTorch binds the arguments of this form by their
    signature at each call, which takes longer than a small site's work.
    """

    @staticmethod
    def forward(q: Tensor, packed: Tensor, slope: float, inplace: bool) -> Tensor:
        return bits.select(q, packed, slope=slope, out=q if inplace else None)

    setup_context = staticmethod(_keep)
    backward = staticmethod(_Held.backward)
    jvp = staticmethod(_Held.jvp)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        q: Tensor,
        packed: Tensor,
        slope: float,
        inplace: bool,
    ) -> tuple[Tensor, int]:
        # the mapped dimension is folded into the batch
        def front(t: Tensor, dim: int | None) -> Tensor:
            return t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)

        many = front(q, in_dims[0])
        rows = front(packed, in_dims[1]).expand(-1, many.shape[1], -1).flatten(0, 1)
        z = select(many.flatten(0, 1), rows, slope=slope).view_as(many)
        if inplace and in_dims[0] is not None:
            return q.copy_(z.movedim(0, in_dims[0])), in_dims[0]
        return z, 0


def select(q: Tensor, packed: Tensor, *, slope: float = 0.0, inplace: bool = False) -> Tensor:
    """Differentiable `bits.select`; linear in `q`, so it is its own derivative."""
    if torch.compiler.is_compiling():
        z = torch.ops.twostroke.select(q, packed, slope)
        return q.copy_(z) if inplace else z
    form = _HeldInTransforms if torch._C._are_functorch_transforms_active() else _Held
    return cast(Tensor, form.apply(q, packed, slope, inplace))


def _clamp_is_closed() -> bool:
    # whether torch.clamp hands the gradient on at its corners depends on the version of PyTorch
    with torch.inference_mode(False), torch.enable_grad():
        corner = torch.zeros((), requires_grad=True, device="cpu")
        return bool(torch.autograd.grad(corner.clamp(min=0), corner)[0])


_CLOSED = _clamp_is_closed()


def _wide(q: Tensor) -> Tensor:
    return q.float() if q.dtype in (torch.half, torch.bfloat16) else q


class Activation(ABC):
    """One call of a switching function on the pre-activation `q`, shape (batch, ...)."""

    kind: ClassVar[str]
    # whether a unit stands alone (rules apply), or chooses among its neighbours (max pooling)
    unitwise: ClassVar[bool] = True

    def __init__(self, q: Tensor, inplace: bool = False) -> None:
        self.q = q
        self.inplace = inplace

    @property
    def shape(self) -> torch.Size:
        """Shape of the mask, batch first."""
        return self.q.shape

    @property
    def planes(self) -> int:
        """Bits per unit."""
        return 1

    @abstractmethod
    def own(self) -> Sequence[Tensor]:
        """Masks of the function's own rule, one for each plane, each of `shape`, bool."""

    def own_packed(self) -> list[Tensor]:
        """`own`, packed: (batch, bytes) uint8 for each plane."""
        return [bits.pack(mask) for mask in self.own()]

    def ruled(self, on: Tensor) -> Sequence[Tensor]:
        """Planes for a mask `on` that some other rule chose; (batch or 1, ...) bool."""
        return (on,)

    @abstractmethod
    def live(self) -> Tensor:
        """Output of the function as PyTorch computes it, never in place."""

    @abstractmethod
    def held(self, planes: Sequence[Tensor]) -> Any:
        """Output for the given packed planes, each (batch or 1, bytes) uint8 (eq. 13)."""

    def gated(self, planes: Sequence[Tensor]) -> Any:
        """`m ∘ f(q)`: the function stays, the mask stands on top of it."""
        z = self.held(self.own_packed())
        return select(z, planes[0], inplace=self.inplace)


class Relu(Activation):
    """`max(q, 0)`: on where `q > 0`, or `q >= 0` if `closed`, for a gradient that is 1 there."""

    kind = "relu"

    def __init__(self, q: Tensor, inplace: bool = False, *, closed: bool = False) -> None:
        super().__init__(q, inplace)
        self.closed = closed

    def _on(self, q: Tensor) -> Tensor:
        # on unless it is not, so that what is undefined goes through as it does in ReLU
        return (q < 0 if self.closed else q <= 0).logical_not_()

    def own(self) -> Sequence[Tensor]:
        return (self._on(self.q),)

    def own_packed(self) -> list[Tensor]:
        return [bits.pack_relu(self.q, closed=self.closed)]

    def live(self) -> Tensor:
        return self.q.clamp(min=0) if self.closed else torch.relu(self.q)

    def held(self, planes: Sequence[Tensor]) -> Tensor:
        return select(self.q, planes[0], inplace=self.inplace)

    def gated(self, planes: Sequence[Tensor]) -> Tensor:
        # one mask instead of two passes: m ∘ max(q, 0) is q where both are on
        (own,) = self.own_packed()
        return select(self.q, own & planes[0], inplace=self.inplace)


class Threshold(Relu):
    """Hard threshold (eq. 9): `q` where `q > beta`, else 0; `beta` a number or (channels,)."""

    kind = "threshold"

    def __init__(
        self,
        q: Tensor,
        beta: float | Tensor = 0.0,
        inplace: bool = False,
        run: Callable[[], Tensor] | None = None,
    ) -> None:
        super().__init__(q, inplace)
        self.beta = beta
        self._run = run

    def own(self) -> Sequence[Tensor]:
        if isinstance(self.beta, Tensor):
            return (self.q > as_channels(self.beta, self.q),)
        return (~(_wide(self.q) <= self.beta),)  # as torch.threshold does

    def own_packed(self) -> list[Tensor]:
        return [bits.pack(self.own()[0])]  # a threshold a channel needs the shape

    def live(self) -> Tensor:
        return self._run() if self._run else hard_threshold(self.q, self.beta)


class LeakyRelu(Activation):
    """`q` where `q > 0`, else `slope * q`."""

    kind = "leaky_relu"

    def __init__(self, q: Tensor, slope: float, inplace: bool = False) -> None:
        super().__init__(q, inplace)
        self.slope = slope

    def own(self) -> Sequence[Tensor]:
        return (~(self.q <= 0),)

    def live(self) -> Tensor:
        return F.leaky_relu(self.q, self.slope)

    def held(self, planes: Sequence[Tensor]) -> Tensor:
        return select(self.q, planes[0], slope=self.slope, inplace=self.inplace)


class PRelu(Activation):
    """`q` where `q > 0`, else `weight * q` with a learned weight, one number or one a channel."""

    kind = "prelu"

    def __init__(self, q: Tensor, weight: Tensor) -> None:
        super().__init__(q)
        self.weight = weight

    def own(self) -> Sequence[Tensor]:
        return (self.q > 0,)

    def live(self) -> Tensor:
        return torch.prelu(self.q, self.weight)

    def held(self, planes: Sequence[Tensor]) -> Tensor:
        # the weight learns from q where the mask is off, so autograd must keep q here
        rest = self.q.shape[1:]
        mask = bits.unpack(planes[0], rest.numel()).view(len(planes[0]), *rest)
        return torch.where(mask, self.q, as_channels(self.weight.to(self.q.dtype), self.q) * self.q)


class Clamp(Activation):
    """Three pieces (ReLU6, hardtanh, `clamp`): `low`, `q`, `high`. The second plane says "high"."""

    kind = "clamp"

    def __init__(
        self, q: Tensor, low: float, high: float, inplace: bool = False, *, clamp: bool = False
    ) -> None:
        super().__init__(q, inplace)
        self.low, self.high, self.clamp = low, high, clamp

    @property
    def planes(self) -> int:
        return 2

    def own(self) -> Sequence[Tensor]:
        # hardtanh compares in single precision at least
        q = self.q if self.clamp else _wide(self.q)
        closed = self.clamp and _CLOSED
        low = q < self.low if closed or self.low == -math.inf else q <= self.low
        high = q > self.high if closed or self.high == math.inf else q >= self.high
        return ~(low | high), high

    def ruled(self, on: Tensor) -> Sequence[Tensor]:
        _, high = self.own()
        return on & ~high, on & high

    def live(self) -> Tensor:
        return (
            self.q.clamp(self.low, self.high)
            if self.clamp
            else F.hardtanh(self.q, self.low, self.high)
        )

    def held(self, planes: Sequence[Tensor]) -> Tensor:
        z = select(self.q, planes[0])
        units, rest = self.q.shape[1:].numel(), self.q.shape[1:]
        for value, packed in ((self.high, planes[1]), (self.low, ~(planes[0] | planes[1]))):
            if value != 0 and math.isfinite(value):
                z = z + value * bits.unpack(packed, units, z.dtype).view(len(packed), *rest)
        return self.q.copy_(z) if self.inplace else z

    def gated(self, planes: Sequence[Tensor]) -> Any:
        return super().gated([planes[0] | planes[1]])


class MaxPool(Activation):
    """Max pooling in one to three dimensions; its support is the argmax, an index into a plane."""

    kind = "max_pool"
    unitwise = False

    def __init__(self, q: Tensor, dims: int, pool: Callable[[], tuple[Tensor, Tensor]], both: bool):
        super().__init__(q)
        self.dims = dims
        self.both = both
        self._pool = pool
        self._result: tuple[Tensor, Tensor] | None = None

    @property
    def result(self) -> tuple[Tensor, Tensor]:
        """Maxima and their indices into the flattened input plane."""
        if self._result is None:
            self._result = self._pool()
        return self._result

    @property
    def shape(self) -> torch.Size:
        return self.result[1].shape

    @property
    def planes(self) -> int:
        return max(1, (self.q.shape[-self.dims :].numel() - 1).bit_length())

    def own(self) -> Sequence[Tensor]:
        index = self.result[1]
        return [(index >> k) & 1 == 1 for k in range(self.planes)]

    def live(self) -> Any:
        return self.result if self.both else self.result[0]

    def held(self, planes: Sequence[Tensor]) -> Any:
        with torch.no_grad():
            shape = self.result[1].shape
        units = shape[1:].numel()
        index = torch.zeros(shape, dtype=torch.int64, device=self.q.device)
        for k, packed in enumerate(planes):
            index += bits.unpack(packed, units, torch.int64).view(len(packed), *shape[1:]) << k
        flat = self.q.flatten(-self.dims)
        z = flat.gather(-1, index.flatten(-self.dims)).view(shape)
        return (z, index) if self.both else z

    gated = held


def _clamp(q: Tensor, min: Any = None, max: Any = None, inplace: bool = False) -> Activation | None:
    def number(value: Any) -> bool:
        return isinstance(value, int | float)

    if max is None and number(min):
        return (
            Relu(q, inplace, closed=_CLOSED)
            if min == 0
            else Clamp(q, min, math.inf, inplace, clamp=True)
        )
    if number(min) and number(max) and min < max:
        return Clamp(q, min, max, inplace, clamp=True)
    return None  # one-sided from above, or bounds that are tensors: nothing that we know to hold


def _hardtanh(q: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    return Clamp(q, min_val, max_val, inplace)


def _leaky(q: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Activation:
    return LeakyRelu(q, negative_slope, inplace)


def _threshold(q: Tensor, threshold: float, value: float, inplace: bool = False) -> Any:
    return Threshold(q, float(threshold), inplace) if value == 0 else None


def _hard_threshold(q: Tensor, beta: float | Tensor, width: float = 1.0) -> Activation:
    return Threshold(q, beta, run=lambda: hard_threshold(q, beta, width))


def _pool(dims: int, function: Callable[..., Any], adaptive: bool, both: bool) -> Any:
    def read(q: Tensor, *args: Any, **kwargs: Any) -> Activation | None:
        wants_both = bool(kwargs.pop("return_indices", False)) or both
        if q.ndim != dims + 2:
            return None  # a single image without a batch: nothing to key a mask by
        if not adaptive and len(args) < 2 and kwargs.get("stride") in (None, ()):
            kwargs["stride"] = args[0] if args else kwargs["kernel_size"]
        return MaxPool(q, dims, lambda: function(q, *args, **kwargs), wants_both)

    return read


def _inplace(read: Callable[..., Activation | None]) -> Callable[..., Activation | None]:
    return lambda q, *args, **kwargs: read(q, *args, inplace=True, **kwargs)


Reader = Callable[..., Activation | None]
FUNCTIONS: dict[Callable[..., Any], Reader] = {hard_threshold: _hard_threshold, torch.prelu: PRelu}


def _register(reader: Reader, *names: str) -> None:
    places = (torch, torch.Tensor, F, torch._C._nn)
    for place in places:
        for name in names:
            if (function := getattr(place, name, None)) is not None:
                FUNCTIONS[function] = reader
            if (function := getattr(place, name + "_", None)) is not None:
                FUNCTIONS[function] = _inplace(reader)


_register(Relu, "relu")
_register(lambda q, inplace=False: Clamp(q, 0.0, 6.0, inplace), "relu6")
_register(_hardtanh, "hardtanh")
_register(_leaky, "leaky_relu")
_register(_threshold, "threshold")
_register(_clamp, "clamp", "clip")
_register(lambda q, min, inplace=False: _clamp(q, min, inplace=inplace), "clamp_min")
FUNCTIONS[torch.Tensor.prelu] = PRelu
for _dims in (1, 2, 3):
    for _place in (torch, F):
        for _prefix, _adaptive in (("", False), ("adaptive_", True)):
            _name = f"{_prefix}max_pool{_dims}d"
            _function = getattr(F, f"{_name}_with_indices")
            for _suffix, _both in (("", False), ("_with_indices", True)):
                if (_called := getattr(_place, _name + _suffix, None)) is not None:
                    # torch.adaptive_max_pool1d gives the indices unasked
                    _gives_both = _both or (_adaptive and _place is torch)
                    FUNCTIONS[_called] = _pool(_dims, _function, _adaptive, _gives_both)
