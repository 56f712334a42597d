"""Lifting (eq. 18, 25) and its way back (eq. 28): weights ↔ the product of their vectors.

Convention: `vec` stacks columns, as in the paper. A convolution's kernel (out, in, kh, kw) counts
as the matrix (out, in·kh·kw), so that shared weights appear once. The lifted vector has the first
layer's index slowest, `v = vec(W1) ⊗ vec(W2) ⊗ …`, so that a row-major view of it is the outer
product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import NotRankOneError, SettingsError


def vec(weight: Tensor) -> Tensor:
    """Column-major vector of a weight, (out, ...) → (numel,): entry `o + out · c` is `weight[o, c]`."""
    return weight.flatten(1).T.reshape(-1)


def unvec(vector: Tensor, shape: Sequence[int]) -> Tensor:
    """Undo `vec` for a weight of `shape`."""
    return vector.view(-1, shape[0]).T.reshape(tuple(shape))


def lift(*vectors: Tensor) -> Tensor:
    """`v1 ⊗ v2 ⊗ …` (eq. 18): (n1,), (n2,), … → (n1·n2·…,). For two, F(p qᵀ) of eq. 25."""
    lifted = vectors[0]
    for vector in vectors[1:]:
        lifted = torch.outer(lifted, vector).reshape(-1)
    return lifted


def lifting(V: Tensor) -> Tensor:
    """The paper's F(V) = vec(Vᵀ) (eq. 33): (p, q) → (pq,), an isometry with F(p qᵀ) = p ⊗ q."""
    return V.reshape(-1)


@dataclass(frozen=True)
class Unlifted:
    """Factors whose product is nearest to a lifted vector.

    `factors` are (n1,), (n2,), …, all of the same norm. `scale` is the norm of their product,
    `residual` the relative distance ‖v − v1 ⊗ v2 ⊗ …‖ / ‖v‖: 0 for a product, up to 1.
    """

    factors: tuple[Tensor, ...]
    scale: float
    residual: float


def unlift(v: Tensor, sizes: Sequence[int], *, rtol: float | None = 1e-8) -> Unlifted:
    """Factors of a lifted vector `v`, (n1·n2·…,), of `sizes` (n1, n2, …) (eq. 28).

    Two factors by singular value decomposition, which is optimal. More by best rank-one
    approximation: the leading left vectors of each unfolding (HOSVD), then alternating power
    iteration until it stands still; exact on products, a local optimum otherwise.

    Only the product is determined: factors may be scaled by c1, c2, … with c1·c2·… = 1. Of all
    these the balanced one is returned, every norm scale^(1/L), and in every factor but the last
    the entry of largest size positive. Raises `NotRankOneError` with the residual where it exceeds
    `rtol`; None returns the nearest product whatever it is.
    """
    sizes = tuple(sizes)
    if v.ndim != 1 or v.numel() != torch.Size(sizes).numel() or len(sizes) < 2:
        raise SettingsError(f"a vector of {tuple(v.shape)} does not lift factors of sizes {sizes}")
    T = v.view(sizes)
    total = float(v.norm())
    if total == 0 or not v.isfinite().all():
        if total == 0:
            return Unlifted(tuple(v.new_zeros(n) for n in sizes), 0.0, 0.0)
        raise SettingsError("a lifted vector with infinite or undefined entries has no factors")
    units = [
        torch.linalg.svd(T.movedim(k, 0).reshape(n, -1), full_matrices=False)[0][:, 0]
        for k, n in enumerate(sizes)
    ]
    previous = -1.0
    for _ in range(500):
        for k in range(len(sizes)):
            image = _contract(T, units, skip=k)
            units[k] = image / image.norm() if image.norm() > 0 else units[k]
        scale = float(image.norm())
        if scale <= previous * (1 + 1e-15):
            break
        previous = scale
    units[-1] = image  # carries the scale and the sign of the product until it is shared out
    return _balanced(T, units, rtol)


def _contract(T: Tensor, units: Sequence[Tensor], *, skip: int) -> Tensor:
    """T contracted with every vector but one: (n_skip,)."""
    for k in reversed(range(len(units))):
        if k != skip:
            T = torch.tensordot(T, units[k], dims=([k], [0]))
    return T


def _balanced(T: Tensor, factors: list[Tensor], rtol: float | None) -> Unlifted:
    scale = float(factors[-1].norm())
    factors = [f / f.norm() if float(f.norm()) else f for f in factors]
    for k, factor in enumerate(factors[:-1]):
        if factor[factor.abs().argmax()] < 0:
            factors[k], factors[-1] = -factor, -factors[-1]
    factors = [f * scale ** (1 / len(factors)) for f in factors]
    residual = float((T.reshape(-1) - lift(*factors)).norm() / T.norm())
    if rtol is not None and residual > rtol:
        raise NotRankOneError(
            f"the vector is not a product of {len(factors)} factors: {residual:.2e} of its norm lies "
            f"outside the nearest product, and rtol is {rtol:.0e}. Its solver has not converged, "
            "or the problem has no rank-one solution; pass rtol=None for the nearest product"
        )
    return Unlifted(tuple(factors), scale, residual)


def unlift_blocks(V: Tensor, *, rtol: float | None = 1e-8) -> tuple[Tensor, Tensor, Tensor]:
    """Factors of the path form, one rank-one block a hidden unit: (h, p, q) → (h, p), (h, q), (h,).

    Block i is `outer(X[i], Y[i])`, X the weights into unit i and Y those out of it; norms of X[i]
    and Y[i] are equal, and the largest entry of X[i] positive, as each unit has a scale of its own
    that no output shows. The last tensor holds each block's share of norm outside its nearest
    product, relative to all of V; `NotRankOneError` where their root sum of squares exceeds
    `rtol`.
    """
    left, s, right = torch.linalg.svd(V, full_matrices=False)
    sign = torch.sign(left[..., 0].gather(1, left[..., 0].abs().argmax(1, keepdim=True)))
    root = s[:, :1].sqrt() * sign
    total = V.norm().clamp_min(torch.finfo(V.dtype).tiny)
    residual = s[:, 1:].norm(dim=1) / total
    if rtol is not None and float(residual.norm()) > rtol:
        worst = int(residual.argmax())
        raise NotRankOneError(
            f"block {worst} of {len(V)} is not a product: {float(residual[worst]):.2e} of the norm "
            f"lies outside it ({float(residual.norm()):.2e} in all), and rtol is {rtol:.0e}. Pass "
            "rtol=None for the nearest products"
        )
    return left[..., 0] * root, right[:, 0] * root, residual
