"""Stochastic gradient descent on the factors: the method that Theorem 1 speaks of."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .driver import Solver, State
from .problem import Factors, Problem, truncated


@dataclass(frozen=True)
class FactoredDescent(Solver):
    """Descend on ½ ‖U F(X Yᵀ) - y‖² / m + ⅛ ‖XᵀX - YᵀY‖² in X and Y at once.

    The second term keeps the factors balanced, which their product does not show (Bhojanapalli,
    Neyshabur, Srebro 2016). `batch` measurements are drawn for each gradient, None takes all
    of them, matrix-free. One step of the driver is one pass over all measurements. `lr` is
    relative to the norm of the start, and for batches below p + q to their size, whose gradients
    are that much longer. Converges linearly where U is close to an isometry; slow or stuck where
    it is not.
    """

    lr: float = 0.5
    batch: int | None = None
    seed: int = 0
    patience: int = 200

    def init(self, problem: Problem, start: Factors) -> State:
        """State at a start."""
        state = super().init(problem, start)
        start = start.balanced()
        m = max(1, len(problem.y))
        # how long U makes a matrix of the rank, at most: power iteration, cut back to the rank
        V, gain = start.product, 0.0
        for _ in range(20):
            V = truncated(V, problem.rank).product
            V = V / V.norm().clamp_min(1e-300)
            image = problem.operator.matvec(V.reshape(-1))
            gain = float(image.square().sum()) / m
            V = problem.back(image)
        # no V shorter than this could explain y, however small the start
        size = float(torch.linalg.matrix_norm(start.product, 2).max())
        size = max(size, float(problem.y.norm()) / max((m * gain) ** 0.5, 1e-300))
        state.memory = {
            "step": self.lr / max(size * gain, torch.finfo(problem.y.dtype).tiny),
            "gain": gain,
            "draw": torch.Generator().manual_seed(self.seed),
        }
        return State(start, state.residual, state.memory)

    def step(self, problem: Problem, state: State) -> State:
        """One pass over the measurements."""
        X, Y = state.factors
        m, (_, p, q) = len(problem.y), problem.blocks
        if self.batch is None or self.batch >= m:
            lots: list[torch.Tensor | None] = [None]
        else:
            order = torch.randperm(m, generator=state.memory["draw"]).to(X.device)
            lots = list(order.split(self.batch))
        rate = state.memory["step"] * min(1.0, (self.batch or m) / (p + q))
        for lot in lots:
            V = X @ Y.mT
            if lot is None:
                G = problem.back(problem.misfit(V)) / m
            else:
                A = problem.matrix[lot].flatten(1)
                G = ((A @ V.reshape(-1) - problem.y[lot]) @ A / len(lot)).view_as(V)
            balance = state.memory["gain"] * (X.mT @ X - Y.mT @ Y) / 2
            X, Y = X - rate * (G @ Y + X @ balance), Y - rate * (G.mT @ X - Y @ balance)
        factors = Factors(X, Y)
        return State(factors, problem.residual(factors.product), state.memory)
