"""Gauss–Newton and Levenberg–Marquardt on the factors."""

from __future__ import annotations

from dataclasses import dataclass

from .alternating import least_norm
from .driver import Solver, State
from .problem import Factors, Problem


def _moved(factors: Factors, step: Factors) -> Factors:
    return Factors(factors.X + step.X, factors.Y + step.Y)


@dataclass(frozen=True)
class GaussNewton(Solver):
    """Linearise U F(X Yᵀ) at balanced factors, and take the least-norm solution as the step.

    Least norm is what makes it work: the Jacobian never has full rank, as X C and Y C⁻ᵀ have the
    same product (Zilber & Nadler 2022 show quadratic convergence). Needs the matrix of U. Its
    residual may rise before it falls.
    """

    patience: int = 30

    def step(self, problem: Problem, state: State) -> State:
        """One linearised solve."""
        factors = state.factors.balanced()
        step, rank = least_norm(problem.jacobian(factors), -problem.misfit(factors.product))
        factors = _moved(factors, problem.split(step))
        return State(
            factors,
            problem.residual(factors.product),
            missing_rank=max(0, problem.freedom - rank),
        )


@dataclass(frozen=True)
class LevenbergMarquardt(Solver):
    """Gauss–Newton with damping: a step is taken only if the residual falls.

    The damping is `damping` times the squared norm of the Jacobian at the start; it falls by ten
    after a success and rises by four after a refusal (up to ten within a step).
    """

    damping: float = 1e-3
    patience: int = 50

    def step(self, problem: Problem, state: State) -> State:
        """One accepted step, or none."""
        factors = state.factors.balanced()
        J, r = problem.jacobian(factors), -problem.misfit(factors.product)
        mu = state.memory.get("mu", self.damping)
        unit = float(J.square().sum()) / max(1, problem.freedom)
        missing = 0
        for _ in range(10):
            step, rank = least_norm(J, r, damping=mu * unit)
            missing = max(0, problem.freedom - rank)
            trial = _moved(factors, problem.split(step))
            residual = problem.residual(trial.product)
            if residual < state.residual:
                return State(trial, residual, {"mu": max(mu / 10, 1e-18)}, missing)
            mu *= 4
        return State(factors, state.residual, {"mu": mu}, missing)
