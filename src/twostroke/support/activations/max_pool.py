"""Max pooling in one to three dimensions: its support is the argmax."""
# ruff: noqa: D102 (`Activation` says what the methods do)

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import bits
from .base import Activation
from .registry import Reader, exported, register


class MaxPool(Activation):
    """Each unit of the output takes the input at an index into the flattened input plane.

    `pool` computes maxima and indices; `both` says that the call returns both.
    """

    kind = "max_pool"
    unitwise = False

    def __init__(
        self, q: Tensor, dims: int, pool: Callable[[], tuple[Tensor, Tensor]], both: bool
    ) -> None:
        super().__init__(q)
        self.dims, self.both = dims, both
        self._pool = pool
        self._index: Tensor | None = None

    @property
    def index(self) -> Tensor:
        """Indices of the maxima: (batch, channels, ...) int64."""
        if self._index is None:
            with torch.no_grad():
                self._index = self._pool()[1]
        return self._index

    @property
    def shape(self) -> torch.Size:
        return self.index.shape

    @property
    def planes(self) -> int:
        return max(1, (self.q.shape[-self.dims :].numel() - 1).bit_length())

    def own(self) -> Sequence[Tensor]:
        return [(self.index >> k) & 1 == 1 for k in range(self.planes)]

    def held(self, planes: Sequence[Tensor]) -> Any:
        index = torch.zeros_like(self.index, memory_format=torch.contiguous_format)
        for k, packed in enumerate(planes):
            index += bits.unpack(packed, self.shape[1:], torch.int64) << k
        z = self.q.flatten(-self.dims).gather(-1, index.flatten(-self.dims)).view(self.shape)
        return (z, index) if self.both else z

    gated = held  # every output is some unit's


def _reader(dims: int, function: Callable[..., Any], adaptive: bool, both: bool) -> Reader:
    def read(q: Tensor, *args: Any, **kwargs: Any) -> Activation | None:
        wants_both = bool(kwargs.pop("return_indices", False)) or both
        if q.ndim != dims + 2:
            return None  # a single image without a batch, where a mask has no example to belong to
        if not adaptive and len(args) < 2 and kwargs.get("stride") in (None, ()):
            kwargs["stride"] = args[0] if args else kwargs["kernel_size"]
        return MaxPool(q, dims, lambda: function(q, *args, **kwargs), wants_both)

    return read


for _dims in (1, 2, 3):
    for _name in (f"max_pool{_dims}d", f"adaptive_max_pool{_dims}d"):
        _function = getattr(F, f"{_name}_with_indices")
        _adaptive = _name.startswith("adaptive")
        for _full in (_name, f"{_name}_with_indices"):
            _both = _full != _name
            register(_reader(_dims, _function, _adaptive, _both), getattr(F, _full))
            _others = [getattr(torch, _full)] if hasattr(torch, _full) else []
            # whose adaptive pooling gives the indices without being asked
            _reads = _reader(_dims, _function, _adaptive, _both or _adaptive)
            register(_reads, *_others, *exported(_full))
