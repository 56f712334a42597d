"""Lifting (eq. 18, 25) and its way back (eq. 28): weights ↔ the product of their vectors.

Convention: `vec` stacks columns, as in the paper. A convolution's kernel (out, in, kh, kw) counts
as the matrix (out, in·kh·kw), so that shared weights appear once. The lifted vector has the first
layer's index slowest, `v = vec(W1) ⊗ vec(W2) ⊗ …`, so that a row-major view of it is the outer
product.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import NotRankOneError


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


def unlift_blocks(V: Tensor, *, rtol: float | None = 1e-8) -> tuple[Tensor, Tensor, Tensor]:
    """Factors of the path form (eq. 28), one rank-one block a hidden unit: (h, p, q) → (h, p), (h, q), (h,).

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
