"""Refuse, by name, a model with non-linearities that no site accounts for.

The first strict forward pass of a model is watched below autograd, where all operations show: also those
of a hand-written `x * (x > 0)`, a custom autograd function or a scripted part. A non-linear operation that
is not part of a site is reported with the module that ran it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import UnholdableError

# The usual activations and gates, under every name that ATen has for them. Not floor: stochastic depth,
# as it is often written, floors random numbers.
_NAMES = """
abs absolute acos acosh amax amin aminmax argmax argmin asin asinh atan atan2 atanh ceil celu clamp
clamp_max clamp_min clip copysign cos cosh cummax cummin elu erf erfc erfinv exp exp2 expm1
fake_quantize_per_channel_affine_cachemask fake_quantize_per_tensor_affine_cachemask fmax fmin fmod
frac gelu glu hardshrink hardsigmoid hardswish hardtanh heaviside hypot kthvalue leaky_relu lgamma
log log10 log1p log2 log_sigmoid log_sigmoid_forward logaddexp logaddexp2 logcumsumexp logit
logsumexp max max_pool2d_with_indices max_pool3d_with_indices maximum median min minimum mish ge gt
le lt pow prelu _prelu_kernel reciprocal relu relu6 remainder renorm rrelu rrelu_with_noise
_rrelu_with_noise round selu sgn sigmoid sign silu sin sinc sinh softmax _softmax _safe_softmax
log_softmax _log_softmax softplus softshrink sort square tan tanh threshold topk trunc
_scaled_dot_product_attention_math _scaled_dot_product_efficient_attention
_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu
_scaled_dot_product_cudnn_attention _thnn_fused_lstm_cell _thnn_fused_gru_cell lstm mkldnn_rnn_layer
adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d _cudnn_rnn
"""
NONLINEAR = frozenset(_NAMES.split())
# calls whose result is of another tensor's shape only, or that overwrite it, with noise or a constant; not
# empty, which somebody fills
_MADE = frozenset(
    {"full_like", "ones_like", "zeros_like", "rand_like", "randn_like", "randint_like"}
    | {"new_full", "new_ones", "new_zeros"}
)
_FILLS = frozenset(
    {"bernoulli_", "uniform_", "normal_", "random_", "exponential_", "geometric_", "log_normal_"}
    | {"zero_", "fill_"}
)
# as a model's very last operation these belong to the loss, not to the network
HEADS = frozenset(("softmax", "log_softmax", "sigmoid", "tanh", "softplus", "log_sigmoid_forward"))

_passed: WeakKeyDictionary[nn.Module, object] = WeakKeyDictionary()


class Watch(TorchDispatchMode):
    """Collects culprits during one forward pass; a model that passed is not watched again."""

    def __init__(
        self, model: nn.Module, modules: Iterable[nn.Module], where: Callable[[], str | None]
    ) -> None:
        super().__init__()
        self._model = model
        self._where = where
        # a model that was changed since is another model
        self._fingerprint = (model.training, tuple(type(m) for m in modules))
        self.running = False
        self._paused = False
        # path, name, and the result where it may be the model's output
        self._culprits: list[tuple[str, str, Tensor | None]] = []
        # storages that no activation has gone into, such as a random mask's; kept alive while it is watched,
        # so that none takes another's address
        self._noise: dict[int, Any] = {}

    def start(self) -> None:
        """A forward pass of the model begins."""
        self.stop()
        if _passed.get(self._model) != self._fingerprint:
            self._culprits.clear()
            self._noise.clear()
            self.__enter__()
            self.running = True

    def stop(self) -> None:
        """Watch no longer; harmless when it was not running."""
        if self.running:
            self.running = False
            self.__exit__(None, None, None)

    def finish(self, output: Any) -> None:
        """The forward pass ended with `output`, or None if it raised; judge what was seen."""
        if not self.running:
            return
        self.stop()
        self._noise.clear()
        if output is None:
            return
        last = output.data_ptr() if isinstance(output, Tensor) else None
        culprits: dict[str, list[str]] = {}  # name, where it ran
        for path, name, head in self._culprits:
            if head is None or head.data_ptr() != last:
                culprits.setdefault(name, []).append(path or "the model itself")
        self._culprits.clear()
        if culprits:
            raise UnholdableError(
                "no support can be held for: "
                + "; ".join(f"{name} in {_some(paths)}" for name, paths in culprits.items())
                + ". Replace them by ReLU, ReLU6, LeakyReLU, PReLU or HardThreshold, or say how they are "
                "held with twostroke.support.register (docs/extending.md). record and hold with "
                "strict=False leave them as they are and hold the rest"
            )
        _passed[self._model] = self._fingerprint

    @contextmanager
    def pause(self) -> Iterator[None]:
        """What runs within the block is part of a site."""
        paused, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = paused

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[-1]
        path = self._where()
        first = result[0] if isinstance(result, tuple | list) and result else result
        tensors = _tensors((*args, *(kwargs or {}).values()))
        # integers and single numbers are bookkeeping, not activations
        tensors = tensors[name in _FILLS :]
        values = [t for t in tensors if t.is_floating_point() and t.ndim]
        noise = bool(values) and all(_storage(t) in self._noise for t in values)
        made = name in _MADE or (name in _FILLS and not values)
        alone = not tensors and not name.startswith("empty")
        self._note(first, (noise or made or alone) and not self._paused)
        if (
            not self._paused
            and path is not None
            and name.removesuffix("_") in NONLINEAR
            and not noise
            and any(t.ndim > 1 for t in values)
        ):
            name = name.strip("_")
            # a head is kept alive, so that no later tensor takes its memory
            self._culprits.append((path, name, first if name in HEADS else None))
        return result

    def _note(self, result: Any, noise: bool) -> None:
        """Remember whether what a call gave is noise, or has become something else in place."""
        if isinstance(result, Tensor) and result.is_floating_point():
            if noise:
                self._noise[_storage(result)] = result.untyped_storage()
            else:
                self._noise.pop(_storage(result), None)


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """All tensors among the arguments of a call, also those in lists."""
    lists = [value if isinstance(value, tuple | list) else [value] for value in values]
    return [value for some in lists for value in some if isinstance(value, Tensor)]


def _storage(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address


def _some(paths: Iterable[str], most: int = 3) -> str:
    every = list(dict.fromkeys(paths))
    more = len(every) - most
    return ", ".join(every[:most]) + (f" and {more} more" if more > 0 else "")
