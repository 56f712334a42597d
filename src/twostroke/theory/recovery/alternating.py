"""Alternating least squares: each factor solved exactly with the other fixed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .driver import Solver, State
from .problem import Factors, Problem


def least_norm(J: Tensor, r: Tensor, *, damping: float = 0.0) -> tuple[Tensor, int]:
    """`argmin ‖J s - r‖² + damping ‖s‖²` of least norm, and the rank of J; J (rows, columns)."""
    left, s, right = torch.linalg.svd(J, full_matrices=False)
    keep = s > torch.finfo(s.dtype).eps * max(J.shape) * s[:1].sum()
    gain = torch.where(keep, s / (s * s + damping), torch.zeros_like(s))
    return right.mT @ (gain * (left.mT @ r)), int(keep.sum())


@dataclass(frozen=True)
class AlternatingLeastSquares(Solver):
    """Solve for all left factors with the right ones fixed, then the other way round.

    Right factors are made orthonormal first, so that a solve is as well conditioned as U allows.
    Needs the matrix of U. One step is one solve of each side.
    """

    patience: int = 50

    def step(self, problem: Problem, state: State) -> State:
        """Solve each side once."""
        A = problem.matrix
        Y = torch.linalg.qr(state.factors.Y)[0]
        J = torch.einsum("mhpq,hqr->mhpr", A, Y)
        x, rank = least_norm(J.flatten(1), problem.y)
        missing = len(x) - rank
        X = torch.linalg.qr(x.view(J.shape[1:]))[0]
        J = torch.einsum("mhpq,hpr->mhqr", A, X)
        y, rank = least_norm(J.flatten(1), problem.y)
        missing = max(missing, len(y) - rank)
        factors = Factors(X, y.view(J.shape[1:]))
        return State(factors, problem.residual(factors.product), missing_rank=missing)
