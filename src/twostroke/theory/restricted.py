"""Restricted isometry: extremes of ‖U V‖² / ‖V‖² over V of low rank in blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 200  # of a search, at most


@dataclass(frozen=True)
class Restricted:
    """Extremes of ‖U V‖² / (m ‖V‖²) over stacks of matrices of rank at most `rank`, and δ from them.

    `low` and `high` are values that some V attains, found by search: the true minimum is at most
    `low`, the true maximum at least `high`. `low_bound` and `high_bound` hold for all V. The least δ that
    any rescaling of U could give lies between `delta_scaled` and `delta_scaled_bound`.
    """

    rank: int
    low: float
    high: float
    low_bound: float
    high_bound: float

    @property
    def delta_scaled(self) -> float:
        """Restricted isometry constant of the best multiple of U, from below."""
        total = self.high + self.low
        return (self.high - self.low) / total if total > 0 else 1.0

    @property
    def delta_scaled_bound(self) -> float:
        """Restricted isometry constant of the best multiple of U, from above."""
        total = self.high_bound + self.low_bound
        return (self.high_bound - self.low_bound) / total if total > 0 else 1.0


def restricted(
    G: Tensor,
    blocks: tuple[int, int, int],
    rank: int,
    *,
    starts: int = 32,
    seed: int = 0,
) -> Restricted:
    """Restricted extremes from the Gram matrix `G = UᵀU / m`, (hpq, hpq), of blocks (h, p, q).

    Search: with orthonormal right factors fixed in every block, V ↦ left factors is an isometry, so
    that the extreme over left factors is an eigenvector; then the sides change roles. Each step is
    monotone, and the best of `starts` random starts counts.

    Bounds: a product x ⊗ y gives G and its partial transpose the same value, so that for rank one
    and one block the extreme eigenvalues of every (1 - t) G + t G^Γ bound both extremes; t = 0 is
    the plain spectrum, and bounds any rank.
    """
    h, p, q = blocks
    draw = torch.Generator().manual_seed(seed)
    rank = min(rank, p, q)
    T = G.view(h, p, q, h, p, q)
    right = torch.randn(starts, h, q, rank, generator=draw, dtype=G.dtype).to(G.device)
    low = _search(T, right, largest=False)
    high = _search(T, right, largest=True)
    values = torch.linalg.eigvalsh(G)
    low_bound, high_bound = float(values[0]), float(values[-1])
    if rank == 1 and h == 1:
        flipped = G.view(p, q, p, q).permute(0, 3, 2, 1).reshape(p * q, p * q)
        for t in (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0):
            values = torch.linalg.eigvalsh((1 - t) * G + t * flipped)
            low_bound = max(low_bound, float(values[0]))
            high_bound = min(high_bound, float(values[-1]))
    return Restricted(rank, max(low, 0.0), high, max(low_bound, 0.0), high_bound)


def _search(
    T: Tensor,  # (h, p, q, h, p, q)
    right: Tensor,  # (starts, h, q, rank)
    *,
    largest: bool,
) -> float:
    found = 0.0
    for _ in range(STEPS):
        before = found
        for _side in range(2):
            right = torch.linalg.qr(right)[0]
            half = torch.einsum("hpqgab,sgbk->shpqgak", T, right)
            M = torch.einsum("shpqgak,shqr->shprgak", half, right)
            s, h, p, r = M.shape[:4]
            values, vectors = torch.linalg.eigh(M.reshape(s, h * p * r, h * p * r))
            right = vectors[..., -1 if largest else 0].view(s, h, p, r)
            found = float(values[:, -1].max() if largest else values[:, 0].min())
            T = T.permute(0, 2, 1, 3, 5, 4)  # the sides change roles
        if abs(found - before) <= 1e-9 * max(abs(found), 1e-9):
            break
    return found
