"""The affine map that a network is once its support is held (eq. 13)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SettingsError, UnholdableError
from ..support import Support, hold
from .affine import refuse_gap, refuse_modules, refuse_support
from .operator import DENSE_LIMIT, refuse_above


@dataclass(frozen=True)
class Attribution:
    """What each input adds to one output: `inputs.sum() + bias` is the output of each example.

    `inputs` is (batch, *input shape), elementwise `A[output] ∘ x`; `bias` and `output` are
    (batch,).
    """

    inputs: Tensor
    bias: Tensor
    output: Tensor


class LinearMap:
    """`y = A x + b` of each example under its support; made by `linear_map`.

    `x` is (batch, *inputs), `output` and `bias` are (batch, *outputs). The network ran once, and
    its graph is kept: `rmatvec` is one backward pass, `matvec` one backward pass of that (the
    transpose of the transpose), and neither runs the model again. Weights that have changed in
    place since are refused, as the graph is of the old ones.
    """

    def __init__(self, model: nn.Module, x: Tensor, output: Tensor, bias: Tensor) -> None:
        self._x = x  # a leaf that requires a gradient, the root of the graph
        self._output = output
        self.bias = bias
        self._weights = [(p, p._version) for p in (*model.parameters(), *model.buffers())]
        self._dy = torch.zeros_like(output, requires_grad=True)
        # Aᵀ dy as a function of dy, which is linear in it: its own transpose is A
        self._transposed: Tensor | None = torch.autograd.grad(
            output, x, self._dy, create_graph=True, allow_unused=True
        )[0]

    @property
    def x(self) -> Tensor:
        """The inputs at which the support was recorded, (batch, *inputs)."""
        return self._x.detach()

    @property
    def output(self) -> Tensor:
        """Outputs under the held support, (batch, *outputs)."""
        return self._output.detach()

    def matvec(self, dx: Tensor) -> Tensor:
        """`A dx` of each example: (batch, *inputs) → (batch, *outputs)."""
        self._check(dx, self._x, "matvec")
        if self._transposed is None:
            return torch.zeros_like(self.output)
        dy: Tensor | None = torch.autograd.grad(
            self._transposed, self._dy, dx, retain_graph=True, allow_unused=True
        )[0]
        return torch.zeros_like(self.output) if dy is None else dy

    def rmatvec(self, dy: Tensor) -> Tensor:
        """`Aᵀ dy` of each example: (batch, *outputs) → (batch, *inputs)."""
        self._check(dy, self._output, "rmatvec")
        (dx,) = torch.autograd.grad(self._output, self._x, dy, retain_graph=True, allow_unused=True)
        return torch.zeros_like(self.x) if dx is None else dx

    def dense(self, *, limit_bytes: int = DENSE_LIMIT) -> tuple[Tensor, Tensor]:
        """`A` (batch, *outputs, *inputs) and `b` (batch, *outputs).

        Takes as many passes as an example has outputs or inputs, whichever are fewer. Raises
        `TooLargeError` above `limit_bytes`.
        """
        n, outs, ins = len(self.x), self.output.shape[1:], self.x.shape[1:]
        refuse_above(
            limit_bytes,
            n * outs.numel() * ins.numel() * self.output.element_size(),
            f"the matrices of {n} examples, {outs.numel()} × {ins.numel()} each,",
            "use matvec, rmatvec and attribution, which are matrix-free",
        )
        by_row = outs.numel() <= ins.numel()
        axes = outs if by_row else ins
        like = self.output if by_row else self.x
        lines = []
        for place in range(axes.numel()):
            one = torch.zeros_like(like).flatten(1)
            one[:, place] = 1
            one = one.view_as(like)
            lines.append((self.rmatvec(one) if by_row else self.matvec(one)).flatten(1))
        A = (
            torch.stack(lines, 1 if by_row else 2)
            if lines
            else self.x.new_zeros(n, outs.numel(), ins.numel())
        )
        return A.view(n, *outs, *ins), self.bias

    def attribution(self, index: int | tuple[int, ...]) -> Attribution:
        """Contributions to the output at `index`, the same for every example; one backward pass.

        They add up: `inputs.flatten(1).sum(1) + bias == output`, up to rounding.
        """
        place: tuple[Any, ...] = (slice(None), *((index,) if isinstance(index, int) else index))
        one = torch.zeros_like(self.output)
        one[place] = 1
        return Attribution(self.rmatvec(one) * self.x, self.bias[place], self.output[place])

    def _check(self, given: Tensor, like: Tensor, name: str) -> None:
        if given.shape != like.shape or given.dtype != like.dtype:
            raise SettingsError(
                f"{name} takes {tuple(like.shape)} {like.dtype}, not {tuple(given.shape)} {given.dtype}"
            )
        if any(p._version != version for p, version in self._weights):
            raise SettingsError(
                "the model's weights have changed since this map was made, and its graph is of the "
                "old ones: call linear_map again"
            )


def linear_map(model: nn.Module, support: Support, x: Tensor) -> LinearMap:
    """The exact affine map `y = A x + b` of each example of `x` under its support (eq. 13).

    `x` is (batch, *inputs), the batch that `support` was recorded on with `pooling=True`; the
    model is in evaluation mode and gives one tensor, (batch, *outputs). `b` is what the held
    network makes of zeros: every bias, and every unit held on a constant piece. Exact in the sense
    that derivatives are taken of a function that is affine; the gap is rounding.

    One random step, in every other example, is compared with the linear prediction: one forward pass,
    which finds what has no name, such as functional normalisation.

    Raises `UnholdableError` for max pooling without a recorded argmax, for normalisation by
    statistics of the input, and where this check fails; `SettingsError` for batch norm or dropout
    in training mode; and what `hold` raises.
    """
    refuse_modules(model)
    refuse_support(model, support, x)
    with torch.enable_grad(), hold(model, support):
        root = x.detach().clone().requires_grad_()
        output = model(root)
        if not isinstance(output, Tensor) or output.shape[:1] != x.shape[:1]:
            raise UnholdableError(
                "a linear map needs a model that gives one tensor with the batch first, not "
                f"{tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__}"
            )
        if not output.requires_grad:  # a model that ignores its input, or detaches it
            output = output + 0 * root.sum()
        with torch.no_grad():
            bias = model(torch.zeros_like(x))
            found = LinearMap(model, root, output, bias)
            step = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
            step = step * x.abs().max().clamp_min(1)
            step[1::2] = 0
            moved = model(x + step)
            with torch.enable_grad():
                gap = moved - found.output - found.matvec(step)
            refuse_gap(gap, moved)
            # examples that did not step must not move
            refuse_gap((moved - found.output)[1::2], moved)
    return found
