"""Singular value projection: gradient steps on V itself, cut back to the rank."""

from __future__ import annotations

from dataclasses import dataclass

from .driver import Solver, State
from .problem import Problem, truncated


@dataclass(frozen=True)
class SingularValueProjection(Solver):
    """`V ← P_r(V - η Uᵀ(U V - y))` (Jain, Meka, Dhillon 2010), matrix-free.

    η is exact along the gradient within V's row and column spaces (normalised, Tanner & Wei 2013),
    so that no constant of U need be known.
    """

    patience: int = 100

    def step(self, problem: Problem, state: State) -> State:
        """One projected gradient step."""
        V = state.factors.product
        G = problem.back(problem.misfit(V))
        X = state.factors.balanced().X
        X = X / X.norm(dim=1, keepdim=True).clamp_min(1e-300)
        inner = X @ (X.mT @ G)  # the part in V's column space
        size = float(problem.operator.matvec(inner.reshape(-1)).square().sum())
        if size == 0:  # a start at zero has no column space
            inner = G
            size = float(problem.operator.matvec(G.reshape(-1)).square().sum())
        eta = float(inner.square().sum()) / size if size else 0.0
        factors = truncated(V - eta * G, problem.rank)
        return State(factors, problem.residual(factors.product))
