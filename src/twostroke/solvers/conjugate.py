"""Conjugate gradients for a symmetric positive semi-definite operator that is known by its products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conjugate:
    """`x` (n,) after `steps` products; `lowest` and `highest` bracket the curvatures that were met.

    They are extreme Ritz values, damping left out: what lies outside of what the search has seen is not
    known. `damping` is the absolute one. `flat` says that a direction without curvature ended it.
    """

    x: Tensor
    steps: int
    lowest: float
    highest: float
    damping: float
    flat: bool


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    b: Tensor,  # (n,)
    *,
    steps: int,
    residual: float = 1e-6,
    damping: float = 0.0,
    moved: Callable[[float], None] | None = None,
) -> Conjugate:
    """Solve `(H + damping · c) x = b` from 0, with c the curvature of H along b, until ‖r‖ ≤ residual ‖b‖.

    `product(u)` is `H u`. `moved(α)` is called after each step with the length that was gone along the
    direction of the last product, for callers who add up what products give beside. Of a singular H the
    solution of least norm is approached. Negative curvature ends the search where it is met.
    """
    x = torch.zeros_like(b)
    r, u = b.clone(), b.clone()
    square = _dot(r, r)
    goal = residual * square**0.5
    absolute, flat = 0.0, False
    alphas: list[float] = []
    betas: list[float] = []
    while len(alphas) < steps and square**0.5 > goal and square > 0:
        Hu = product(u)
        curvature, length = _dot(u, Hu), _dot(u, u)
        if not alphas:
            absolute = damping * max(curvature / length, 0.0)
        bent = curvature + absolute * length
        top = max((1 / a for a in alphas), default=curvature / length)
        if not bent > torch.finfo(b.dtype).eps * max(top, 0.0) * length:
            flat = True
            break
        alpha = square / bent
        x.add_(u, alpha=alpha)
        r.sub_(Hu.add(u, alpha=absolute), alpha=alpha)
        if moved is not None:
            moved(alpha)
        before, square = square, _dot(r, r)
        alphas.append(alpha)
        betas.append(square / before)
        u = r + betas[-1] * u
    lowest, highest = _ritz(alphas, betas)
    return Conjugate(x, len(alphas), lowest - absolute, highest - absolute, absolute, flat)


def _ritz(alphas: list[float], betas: list[float]) -> tuple[float, float]:
    """Extreme eigenvalues of the Lanczos matrix that conjugate gradients build on the way."""
    if not alphas:
        return 0.0, 0.0
    n = len(alphas)
    T = torch.zeros(n, n, dtype=torch.float64)
    for k in range(n):
        T[k, k] = 1 / alphas[k] + (betas[k - 1] / alphas[k - 1] if k else 0.0)
        if k:
            T[k, k - 1] = T[k - 1, k] = betas[k - 1] ** 0.5 / alphas[k - 1]
    if not T.isfinite().all():
        return 0.0, float("inf")
    values = torch.linalg.eigvalsh(T)
    return float(values[0]), float(values[-1])


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.double(), b.double()))
