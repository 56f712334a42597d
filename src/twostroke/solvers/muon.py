"""Steepest descent in the spectral norm (Muon), for convolutions and linear layers.

A held network is a product of linear maps. The spectral norm of a layer's update, times the norm of a patch,
bounds how far its pre-activations at one place can move; at all places together, and so in every later layer,
times the root of how many patches a pixel is in (k² at most). Of all updates with one spectral norm the
orthogonalised one falls fastest.
torch's own `Muon` takes matrices only and treats them one by one; here weights of any dimension are read as
(out, in · kernel) matrices, big ones are cut into blocks, those of one shape are orthogonalised
together, and all other parameters go by SGD within the same optimiser.

After K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import SettingsError

# Jordan's quintic: five steps bring every singular value from 0.0015..1 to 0.68..1.2
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_LEAST = 1e-7  # what a norm is divided by at least
# numbers worked on together: what one pass over them wrote is still in the cache for the next
_AT_ONCE = 1 << 22

Blocks = tuple[Tensor, ...]  # weights, gradient, momentum: (count, rows, columns) each


def orthogonalise(
    matrices: Tensor,  # (count, rows, columns)
    steps: int = 5,
) -> Tensor:  # (count, rows, columns)
    """Nearly `U Vᵀ` of each matrix's singular value decomposition, by Newton–Schulz iteration.

    Computed in bfloat16 on a GPU and in the matrices' own precision on a CPU. After five steps singular
    values above 0.0015 of the matrix's Frobenius norm come out between 0.68 and 1.2, which serves
    descent as well as 1 does. Smaller ones stay small: they grow by 3.4445 a step at most.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = _factor(x, steps) @ x if _by_gram(x, steps) else _by_steps(x, steps)
    return x.mT if tall else x


def _by_gram(x: Tensor, steps: int) -> bool:
    """Whether Gram matrices have the digits for the shorter way.

    Half precision has not those for the squares of small singular values. And where these are but
    rounding, and so may be below 0, every step makes them twelve times as large.
    """
    return not x.is_cuda and torch.finfo(x.dtype).bits >= 32 and steps <= 5


def _by_steps(x: Tensor, steps: int) -> Tensor:
    """Newton–Schulz as it is written: X ← (aI + bG + cG²) X with G = X Xᵀ."""
    a, b, c = _COEFFICIENTS
    dtype = x.dtype
    x = x.bfloat16() if x.is_cuda else x
    x = x / x.flatten(1).norm(dim=1).clamp(min=_LEAST).view(-1, 1, 1)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(dtype)


def _factor(
    x: Tensor,  # (count, rows, columns)
    steps: int,
) -> Tensor:  # (count, rows, rows)
    """What the iteration multiplies X by in all, found without touching X again.

    A step multiplies X by F = aI + bG + cG² and so turns G into F G F: the product of all F needs
    products of (rows, rows) only. The trace of G is the square of X's norm.
    """
    a, b, c = _COEFFICIENTS
    gram = x @ x.mT
    norm = gram.diagonal(dim1=1, dim2=2).sum(1).sqrt().clamp(min=_LEAST).view(-1, 1, 1)
    gram /= norm**2
    product = None
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if step < steps - 1:
            gram = factor @ gram @ factor
    assert product is not None
    return product / norm


class Muon(Optimizer):
    """Muon for the weights of convolutions and linear layers, SGD with momentum for the rest.

    `params` are a model's parameters, or parameter groups. Weights of two and more dimensions move by
    `lr * sqrt(max(1, out / (in * kernel))) * orthogonalise(momentum)`, kernel being k² for k×k; biases and
    the like by SGD at `rest * lr`. Both use Nesterov momentum; weight decay is decoupled for the first
    (`lr * weight_decay * w`) and not applied to the rest. A weight does not tell the groups of its
    convolution: those of a grouped or depth-wise one move as one matrix (out, in / groups · kernel).
    `steps` are of `orthogonalise`. A matrix whose shorter side is longer than `block` is cut along it into
    blocks of so many rows or fewer, each of which is orthogonalised on its own: whole, a layer of 512 channels
    takes longer than its forward and backward pass, and a VGG's classifier a minute. Raises
    `SettingsError` for values out of range.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 0.05,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        rest: float = 1.0,
        steps: int = 5,
        block: int = 64,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "rest": rest,
            "steps": steps,
            "block": block,
        }
        _check(defaults)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own; raises `SettingsError` for values out of range."""
        _check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step, from the gradients in place; `closure` recomputes them and gives the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if moving:
                self._step_group(group, moving)
        return loss

    def _step_group(self, group: dict[str, Any], moving: list[nn.Parameter]) -> None:
        for p in moving:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        self._move_rest(group, [p for p in moving if p.ndim < 2])
        alike: dict[tuple[Any, ...], list[Blocks]] = defaultdict(list)
        copies = []
        for p in moving:
            if p.ndim < 2 or p.grad is None:
                continue
            weights = _laid_out(p)
            if weights.data_ptr() != p.data_ptr():
                copies.append((p, weights))
            momentum = self.state[p]["momentum"]
            if momentum.stride() != weights.stride():
                momentum = torch.empty_like(weights).copy_(momentum)
                self.state[p]["momentum"] = momentum
            scale = math.sqrt(max(1.0, len(p) / p[0].numel()))
            for blocks in _blocks(weights, p.grad, momentum, group["block"]):
                key = (*blocks[0].shape[1:], p.device, p.dtype, scale)
                alike[key].append(blocks)
                if sum(weights.numel() for weights, *_ in alike[key]) >= _AT_ONCE:
                    _move(group, alike.pop(key), scale)
        for (*_, scale), members in alike.items():
            _move(group, members, scale)
        for p, weights in copies:
            p.copy_(weights)

    def _move_rest(self, group: dict[str, Any], moving: list[Tensor]) -> None:
        """SGD with Nesterov momentum."""
        if moving:
            grads = [p.grad for p in moving if p.grad is not None]
            momenta: list[Tensor] = [self.state[p]["momentum"] for p in moving]
            torch._foreach_mul_(momenta, group["momentum"])
            torch._foreach_add_(momenta, grads)
            updates = torch._foreach_add(grads, momenta, alpha=group["momentum"])
            torch._foreach_add_(moving, updates, alpha=-group["lr"] * group["rest"])


def _columns(p: Tensor) -> tuple[int, ...]:
    """Dimensions in the order of memory, the first one first."""
    return (0, *sorted(range(1, p.ndim), key=p.stride, reverse=True))


def _laid_out(p: Tensor) -> Tensor:
    """`p`, or a contiguous copy where it is not a matrix as it lies in memory."""
    return p if p.permute(_columns(p)).is_contiguous() else p.contiguous()


def _blocks(weights: Tensor, grad: Tensor, momentum: Tensor, most: int) -> Iterator[Blocks]:
    """Views of the three as matrices, shorter side first, cut so that this has `most` rows or fewer.

    Columns stand in the order of memory, on which the result does not depend.
    """
    order = _columns(weights)
    flat = [t.permute(order).flatten(1) for t in (weights, grad, momentum)]
    if flat[0].shape[0] > flat[0].shape[1]:
        flat = [t.mT for t in flat]
    rows, length = flat[0].shape
    side = math.ceil(rows / math.ceil(rows / most))
    whole = rows // side * side
    together = max(1, _AT_ONCE // (side * length))
    yield from zip(*(t[:whole].unflatten(0, (-1, side)).split(together) for t in flat), strict=True)
    if whole < rows:
        yield tuple(t[whole:].unsqueeze(0) for t in flat)


def _move(group: dict[str, Any], members: list[Blocks], scale: float) -> None:
    """Move weights, in blocks of one shape."""
    lr, momentum, steps = group["lr"], group["momentum"], group["steps"]
    counts = [len(grad) for _, grad, _ in members]
    x = members[0][1].new_empty(sum(counts), *members[0][1].shape[1:])
    for (_, grad, kept), update in zip(members, x.split(counts), strict=True):
        torch.add(grad, kept, alpha=momentum, out=kept)
        torch.add(grad, kept, alpha=momentum, out=update)  # Nesterov
    stays, size = 1 - lr * group["weight_decay"], -lr * scale
    if _by_gram(x, steps):
        parts = zip(members, _factor(x, steps).split(counts), x.split(counts), strict=True)
        for (weights, *_), factor, update in parts:
            weights.baddbmm_(factor, update, beta=stays, alpha=size)
    else:
        for (weights, *_), move in zip(members, _by_steps(x, steps).split(counts), strict=True):
            weights.mul_(stays).add_(move, alpha=size)


def _check(group: dict[str, Any]) -> None:
    for name in ("lr", "weight_decay", "rest"):
        if not 0 <= group[name] < math.inf:
            raise SettingsError(f"{name} must be a number of 0 or more, not {group[name]}")
    for name in ("steps", "block"):
        if not isinstance(group[name], int) or group[name] < 1:
            raise SettingsError(f"{name} must be a whole number of at least 1, not {group[name]!r}")
    momentum = group["momentum"]
    if not 0 <= momentum < 1:
        raise SettingsError(f"momentum must be in [0, 1), not {momentum}")
