"""Restricted isometry: extremes of ‖U V‖² / ‖V‖² over V of low rank in blocks, or over products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 200  # of a search, at most


@dataclass(frozen=True)
class Restricted:
    """Extremes of ‖U V‖² / (m ‖V‖²) over stacks of matrices of rank at most `rank`, and δ from them.

    `low` and `high` are values that some V attains, found by search: the true minimum is at most
    `low`, the true maximum at least `high`. `low_bound` and `high_bound` hold for all V. So the
    constant δ = max(1 - min, max - 1) lies between `delta` and `delta_bound`. `delta_scaled` is the
    least δ that any rescaling of U could give, (high - low) / (high + low), again from below.
    """

    rank: int
    low: float
    high: float
    low_bound: float
    high_bound: float

    @property
    def delta(self) -> float:
        """Restricted isometry constant, from below."""
        return max(1 - self.low, self.high - 1)

    @property
    def delta_bound(self) -> float:
        """Restricted isometry constant, from above."""
        return max(1 - self.low_bound, self.high_bound - 1)

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


def restricted_products(
    G: Tensor,
    sizes: Sequence[int],
    columns: Tensor | None = None,
    *,
    starts: int = 32,
    seed: int = 0,
) -> Restricted:
    """Restricted extremes over products of any number of factors, from the Gram matrix `G = UᵀU / m`.

    The unknown is `v1 ⊗ v2 ⊗ …` of `sizes` (n1, n2, …), or its entries at `columns`, (columns of G,),
    as in path form. Search: with all factors but one fixed the unknown is linear in that one, with a
    diagonal Gram matrix of its own, since an entry belongs to one weight a layer; so that the extreme is an
    eigenvector. Then the next factor has its turn. Each step is monotone, and the best of `starts`
    random starts counts. The bounds are the spectrum's.
    """
    if columns is None:
        columns = torch.arange(torch.Size(sizes).numel(), device=G.device)
    places = torch.unravel_index(columns, tuple(sizes))
    draw = torch.Generator().manual_seed(seed)
    begun = [
        [torch.randn(n, generator=draw, dtype=G.dtype).to(G.device) for n in sizes]
        for _ in range(starts)
    ]
    low = min(_search_products(G, places, start, largest=False) for start in begun)
    high = max(_search_products(G, places, start, largest=True) for start in begun)
    values = torch.linalg.eigvalsh(G)
    return Restricted(1, max(low, 0.0), high, max(float(values[0]), 0.0), float(values[-1]))


def _search_products(
    G: Tensor, places: Sequence[Tensor], start: Sequence[Tensor], *, largest: bool
) -> float:
    factors = list(start)
    found = 0.0
    for _ in range(STEPS):
        before = found
        for layer, place in enumerate(places):
            rest = G.new_ones(len(place))
            for other, (factor, where) in enumerate(zip(factors, places, strict=True)):
                if other != layer:
                    rest = rest * factor[where]
            size = len(factors[layer])
            length = G.new_zeros(size).index_add(0, place, rest.square()).sqrt()
            # weights whose paths all are 0 change nothing, and have no length
            alive = length > 1e-12 * length.max()
            scaled = rest / torch.where(alive, length, 1)[place] * alive[place]
            M = G.new_zeros(size, len(place)).index_add(0, place, scaled[:, None] * G)
            M = G.new_zeros(size, size).index_add(0, place, (M * scaled).T)[alive][:, alive]
            values, vectors = torch.linalg.eigh((M + M.T) / 2)
            end = -1 if largest else 0
            found = float(values[end])
            factor = G.new_zeros(size)
            factor[alive] = vectors[:, end] / length[alive]
            factors[layer] = factor / factor.norm()
        if abs(found - before) <= 1e-9 * max(abs(found), 1e-9):
            break
    return found
