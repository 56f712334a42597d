"""Problems P1–P3 (eq. 22, 24, 27) as one: find V, blocks of low rank, with `U V = y`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import SettingsError
from .lifting import lifting
from .operator import LinearOperator


class Factors(NamedTuple):
    """`X` (h, p, rank) and `Y` (h, q, rank) with V = X Yᵀ in every block."""

    X: Tensor
    Y: Tensor

    @property
    def product(self) -> Tensor:
        """V, (h, p, q)."""
        return self.X @ self.Y.mT

    def balanced(self) -> Factors:
        """The same product with XᵀX = YᵀY diagonal (eq. 28)."""
        Qx, Rx = torch.linalg.qr(self.X)
        Qy, Ry = torch.linalg.qr(self.Y)
        left, s, right = torch.linalg.svd(Rx @ Ry.mT)
        root = s.sqrt()[:, None, :]
        return Factors(Qx @ left * root, Qy @ right.mT * root)


def truncated(V: Tensor, rank: int) -> Factors:
    """Nearest factors of `rank` to V (h, p, q), balanced."""
    left, s, right = torch.linalg.svd(V, full_matrices=False)
    root = s[:, None, :rank].sqrt()
    return Factors(left[..., :rank] * root, right.mT[..., :rank] * root)


@dataclass(frozen=True)
class Problem:
    """`min ‖y - U F(V)‖²` over V whose blocks have rank at most `rank` (P3, eq. 27).

    With the lifted operator of two layers and rank one this is P3 as written, and in factors P2;
    with the path form it is P1, one rank-one block a hidden unit; with a Gaussian operator,
    low-rank matrix sensing. `y` is (rows,) of the operator. Raises `SettingsError` where sizes do
    not fit, where the operator has no `blocks`, or `y` is not finite.
    """

    operator: LinearOperator
    y: Tensor
    rank: int = 1

    def __post_init__(self) -> None:
        if self.operator.blocks is None:
            raise SettingsError(
                f"{self.operator!r} does not act on a stack of matrices: recovery is for two layers, "
                "or for an operator with blocks=(h, p, q)"
            )
        if self.y.shape != self.operator.shape[:1] or self.y.dtype != self.operator.dtype:
            raise SettingsError(
                f"{self.operator!r} gives {self.operator.shape[0]} measurements of "
                f"{self.operator.dtype}, and y is {tuple(self.y.shape)} {self.y.dtype}"
            )
        if not self.y.isfinite().all():
            raise SettingsError("y has infinite or undefined entries: look at what made it")
        if not 1 <= self.rank <= min(self.blocks[1:]):
            raise SettingsError(
                f"rank is between 1 and {min(self.blocks[1:])} for blocks of {self.blocks}, not {self.rank}"
            )

    @property
    def blocks(self) -> tuple[int, int, int]:
        """(h, p, q)."""
        assert self.operator.blocks is not None
        return self.operator.blocks

    @property
    def freedom(self) -> int:
        """Degrees of freedom of V: h · rank · (p + q - rank)."""
        h, p, q = self.blocks
        return h * self.rank * (p + q - self.rank)

    @cached_property
    def matrix(self) -> Tensor:
        """U as (rows, h, p, q), for methods that solve for a whole factor; `TooLargeError` as `dense`."""
        return self.operator.dense().view(-1, *self.blocks)

    @cached_property
    def scale(self) -> float:
        """‖y‖, or 1 where that is 0."""
        return float(self.y.norm()) or 1.0

    def misfit(self, V: Tensor) -> Tensor:
        """`U F(V) - y`, (rows,)."""
        return self.operator.matvec(lifting(V)) - self.y

    def residual(self, V: Tensor) -> float:
        """‖U F(V) - y‖ / ‖y‖."""
        return float(self.misfit(V).norm()) / self.scale

    def back(self, r: Tensor) -> Tensor:
        """`Uᵀ r` as blocks: (rows,) → (h, p, q)."""
        return self.operator.rmatvec(r).view(self.blocks)

    def jacobian(self, factors: Factors) -> Tensor:
        """Derivative of U F(X Yᵀ) by X, then by Y: (rows, h·rank·(p + q))."""
        by_x = torch.einsum("mhpq,hqr->mhpr", self.matrix, factors.Y).flatten(1)
        by_y = torch.einsum("mhpq,hpr->mhqr", self.matrix, factors.X).flatten(1)
        return torch.cat([by_x, by_y], 1)

    def split(self, step: Tensor) -> Factors:
        """A vector of the size of `jacobian`'s columns, as a step of X and of Y."""
        h, p, q = self.blocks
        X, Y = step.split([h * p * self.rank, h * q * self.rank])
        return Factors(X.view(h, p, self.rank), Y.view(h, q, self.rank))

    def missing_rank(self, factors: Factors) -> int:
        """How many directions at V the measurements cannot see: 0 where V is isolated.

        Rank of the Jacobian against the degrees of freedom; scale ambiguity between X and Y is not
        counted. A hidden unit that is off for every example shows here.
        """
        s = torch.linalg.svdvals(self.jacobian(factors.balanced()))
        threshold = 1e3 * torch.finfo(s.dtype).eps * max(self.operator.shape) ** 0.5
        rank = int((s > threshold * s[0]).sum()) if len(s) else 0
        return max(0, self.freedom - rank)
