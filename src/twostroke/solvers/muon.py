"""Steepest descent in the spectral norm (Muon), for convolutions and linear layers.

A held network is a product of linear maps. The spectral norm of a layer's update, times the norm of a patch,
bounds how far its pre-activations at one place can move; at all places together, and so in every later layer,
times the root of how many patches a pixel is in (k² at most). Of all updates with one spectral norm the
orthogonalised one falls fastest.
torch's own `Muon` takes matrices only and treats them one by one; here weights of any dimension are read as
(out, in · kernel) matrices, those of one shape are orthogonalised together, and all other
parameters go by SGD within the same optimiser.

After K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import SettingsError

# Jordan's quintic: five steps bring every singular value from 0.0015..1 to 0.68..1.2
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


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
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    if tall:
        x = x.mT
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7).view(-1, 1, 1)
    # Half precision has not the digits for the squares of small singular values. And where these are
    # but rounding, and so may be below 0, every step makes them twelve times as large.
    exact = torch.finfo(x.dtype).bits >= 32 and steps <= 5
    long = x.shape[-1] >= 2 * x.shape[-2]
    x = _by_gram(x, steps) if long and exact else _by_steps(x, steps)
    return (x.mT if tall else x).to(matrices.dtype)


def _by_steps(x: Tensor, steps: int) -> Tensor:
    """Newton–Schulz as it is written: X ← (aI + bG + cG²) X with G = X Xᵀ."""
    a, b, c = _COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _by_gram(x: Tensor, steps: int) -> Tensor:
    """The same for matrices of many columns, which are touched twice only.

    A step multiplies X by F = aI + bG + cG² and so turns G into F G F: the product of all F needs
    products of (rows, rows) only.
    """
    a, b, c = _COEFFICIENTS
    gram = x @ x.mT
    product = identity = torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device).expand_as(gram)
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c) + a * identity
        product = factor @ product if step else factor
        if step < steps - 1:
            gram = factor @ gram @ factor
    return product @ x


class Muon(Optimizer):
    """Muon for the weights of convolutions and linear layers, SGD with momentum for the rest.

    `params` are a model's parameters, or parameter groups. Weights of two and more dimensions move by
    `lr * sqrt(max(1, out / (in * kernel))) * orthogonalise(momentum)`, kernel being k² for k×k; biases and
    the like by SGD at `rest * lr`. Both use Nesterov momentum; weight decay is decoupled for the first
    (`lr * weight_decay * w`) and not applied to the rest. A weight does not tell the groups of its
    convolution: those of a grouped or depth-wise one move as one matrix (out, in / groups · kernel).
    `steps` are of `orthogonalise`. Raises `SettingsError` for values out of range.
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
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "rest": rest,
            "steps": steps,
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
        lr, momentum = group["lr"], group["momentum"]
        for p in moving:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        buffers: list[Tensor] = [self.state[p]["momentum"] for p in moving]
        grads = [p.grad for p in moving if p.grad is not None]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, grads)
        updates = torch._foreach_add(grads, buffers, alpha=momentum)  # Nesterov
        alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for i, p in enumerate(moving):
            if p.ndim >= 2:
                alike[(len(p), p[0].numel(), p.device, p.dtype)].append(i)
            else:
                p.add_(updates[i], alpha=-lr * group["rest"])
        for (rows, columns, *_), members in alike.items():
            matrices = torch.stack([updates[i].reshape(rows, columns) for i in members])
            moves = orthogonalise(matrices, group["steps"])
            size = -lr * math.sqrt(max(1.0, rows / columns))
            for i, move in zip(members, moves, strict=True):
                moving[i].mul_(1 - lr * group["weight_decay"])
                moving[i].add_(move.view_as(moving[i]), alpha=size)


def _check(group: dict[str, Any]) -> None:
    for name in ("lr", "weight_decay", "rest"):
        if not 0 <= group[name] < math.inf:
            raise SettingsError(f"{name} must be a number of 0 or more, not {group[name]}")
    steps, momentum = group["steps"], group["momentum"]
    if not isinstance(steps, int) or steps < 1:
        raise SettingsError(f"steps must be a whole number of at least 1, not {steps!r}")
    if not 0 <= momentum < 1:
        raise SettingsError(f"momentum must be in [0, 1), not {momentum}")
