"""One driver for every solver: `recover(problem, solver, start)` → `Solution`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import SettingsError, TooLargeError
from ...outcome import Result, Status
from .problem import Factors, Problem, truncated

ADVISES: Mapping[Status, str] = {
    Status.CONVERGED: "The measurements are met to the tolerance, and no other solution is near.",
    Status.NOT_UNIQUE: "The measurements are met, but they do not determine the solution: there are "
    "directions that no measurement sees. Take more measurements. In a network, look for hidden units that "
    "are off for every example, and for units that are always on together.",
    Status.STALLED: "The residual has stopped falling above the tolerance: a local minimum, noise in the "
    "measurements, or a rank too small. Try other starts, LevenbergMarquardt, a higher rank, or a larger "
    "rtol if the data are noisy.",
    Status.LIMIT: "The steps ran out while the residual was still falling: raise max_steps, or take a "
    "method of second order (GaussNewton, LevenbergMarquardt).",
    Status.DIVERGED: "The residual grew beyond all bounds: lower the learning rate, start from 'spectral', "
    "or damp (LevenbergMarquardt).",
    Status.SINGULAR: "A linear solve met a matrix without full rank, and the least-norm step does not go "
    "on: there are fewer measurements than unknowns in a block, or hidden units without any data. Take "
    "more measurements, damp (LevenbergMarquardt), or start at random.",
}


@dataclass(frozen=True, kw_only=True)
class Recovery(Result):
    """How a recovery ended. `residuals` has one relative residual for the start and each step."""

    ADVISES: ClassVar[Mapping[Status, str]] = ADVISES

    residuals: tuple[float, ...]

    @property
    def residual(self) -> float:
        """‖U F(V) - y‖ / ‖y‖ at the end."""
        return self.residuals[-1]

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.residuals) - 1


def figures(residuals: Sequence[float]) -> str:
    """The `detail` of a recovery."""
    return f"residual {residuals[-1]:.1e} after {len(residuals) - 1} steps"


@dataclass
class State:
    """Where a solver stands. `factors` is its solution of the problem's rank; `memory` is its own.

    `missing_rank` is the largest deficit that a linear solve met.
    """

    factors: Factors
    residual: float
    memory: dict[str, Any] = field(default_factory=dict)
    missing_rank: int = 0


class Solver(ABC):
    """A method for `Problem`: how it begins and how it steps. When to end is the driver's.

    `patience` is the number of steps within which the residual must fall by 1 %.
    """

    patience: int = 30

    def init(self, problem: Problem, start: Factors) -> State:
        """State at a start."""
        return State(start, problem.residual(start.product))

    @abstractmethod
    def step(self, problem: Problem, state: State) -> State:
        """The next state."""


@dataclass(frozen=True, kw_only=True)
class Solution(Recovery):
    """What a recovery found.

    factors: balanced, with V = X Yᵀ.
    missing_rank: directions at the solution that no measurement sees; None where the problem is too
        large to tell.
    """

    factors: Factors
    missing_rank: int | None

    @property
    def V(self) -> Tensor:  # noqa: N802 - the paper's letter
        """The solution, (h, p, q)."""
        return self.factors.product

    def error(self, truth: Tensor) -> float:
        """‖V - truth‖ / ‖truth‖ for a truth of (h, p, q)."""
        return float((self.V - truth.view(self.V.shape)).norm() / truth.norm())


def start_factors(problem: Problem, start: str | Factors, *, seed: int = 0) -> Factors:
    """Where to begin.

    "spectral": the nearest factors to Uᵀy, scaled to fit y best; "random": Gaussian factors,
    scaled so that their product explains as much of ‖y‖ as a random one would; or factors of your
    own.
    """
    h, p, q = problem.blocks
    if isinstance(start, Factors):
        want = (h, p, problem.rank), (h, q, problem.rank)
        if (tuple(start.X.shape), tuple(start.Y.shape)) != want:
            raise SettingsError(f"start is X {want[0]} and Y {want[1]} for this problem")
        return start
    if start == "spectral":
        factors = truncated(problem.back(problem.y), problem.rank)
    elif start == "random":
        draw = torch.Generator().manual_seed(seed)
        X, Y = (
            torch.randn(h, n, problem.rank, generator=draw, dtype=problem.y.dtype).to(
                problem.y.device
            )
            for n in (p, q)
        )
        factors = Factors(X, Y)
    else:
        raise SettingsError(f"start is 'spectral', 'random' or Factors, not {start!r}")
    image = problem.misfit(factors.product) + problem.y
    size = float(image.norm())
    if start == "spectral":
        scale = abs(float(image @ problem.y)) / size**2 if size else 0.0
    else:
        scale = float(problem.y.norm()) / size if size else 0.0
    return Factors(factors.X * math.sqrt(scale), factors.Y * math.sqrt(scale))


def recover(
    problem: Problem,
    solver: Solver,
    start: str | Factors = "spectral",
    *,
    max_steps: int = 1000,
    rtol: float | None = None,
    seed: int = 0,
) -> Solution:
    """Solve `problem` by `solver` from `start`; deterministic for a `seed`.

    Ends when the relative residual is at most `rtol` (default: 50 units of rounding of the dtype),
    has not fallen by 1 % within the solver's patience, is undefined, or `max_steps` are done.
    Never raises for want of convergence: read `Solution.status` and `advice`.
    """
    rtol = 50 * torch.finfo(problem.y.dtype).eps if rtol is None else rtol
    with torch.no_grad():
        state = best = solver.init(problem, start_factors(problem, start, seed=seed))
        residuals = [state.residual]
        status = Status.LIMIT
        mark, marked = state.residual, 0  # the last residual that was a fall of 1 %, and its step
        for step in range(max_steps + 1):
            if state.residual <= rtol:
                status = Status.CONVERGED
                break
            if not math.isfinite(state.residual) or state.residual > 1e6 * max(residuals[0], 1.0):
                status = Status.DIVERGED
                break
            if state.residual < 0.99 * mark:
                mark, marked = state.residual, step
            if step - marked > solver.patience:
                status = Status.SINGULAR if state.missing_rank else Status.STALLED
                break
            if step == max_steps:
                break
            state = solver.step(problem, state)
            residuals.append(state.residual)
            if state.residual < best.residual:
                best = state
        factors = best.factors.balanced()
        # the residual of what is handed over, which rounding or truncation may have changed
        residuals[-1] = problem.residual(factors.product)
        missing: int | None = None
        if status is Status.CONVERGED:
            try:
                missing = problem.missing_rank(factors)
            except TooLargeError:
                missing = None
            if missing:
                status = Status.NOT_UNIQUE
    unseen = f", {missing} directions unseen" if missing else ""
    return Solution(
        status=status,
        detail=figures(residuals) + unseen,
        residuals=tuple(residuals),
        factors=factors,
        missing_rank=missing,
    )
