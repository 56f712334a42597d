"""Recovery of weights given their support (§3.3): `recover(problem)` → `Solution`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import SettingsError, TooLargeError
from ..outcome import Result, Status
from .least_squares import levenberg_marquardt
from .problem import Factors, Problem, truncated

ADVISES: Mapping[Status, str] = {
    Status.CONVERGED: "The measurements are met to the tolerance, and no other solution is near.",
    Status.NOT_UNIQUE: "The measurements are met, but they do not determine the solution: there are "
    "directions that no measurement sees. Take more measurements. In a network, look for hidden units that "
    "are off for every example, and for units that are always on together.",
    Status.STALLED: "The residual has stopped falling above the tolerance: a local minimum, noise in the "
    "measurements, or a rank too small. Try other starts, a higher rank, or a larger rtol if the data are "
    "noisy.",
    Status.LIMIT: "The steps ran out while the residual was still falling: raise max_steps.",
    Status.DIVERGED: "The residual is infinite or undefined at the start: look at the measurements.",
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


@dataclass(frozen=True, kw_only=True)
class Solution(Recovery):
    """What a recovery found.

    factors: balanced, with V = X Yᵀ.
    missing_rank: directions at the solution that no measurement sees; None where it is not a solution or
        the problem is too large to tell.
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

    "spectral": the nearest factors to Uᵀy; "random": Gaussian factors; either scaled so that their product
    explains as much of ‖y‖ as it can, or as a random one would. Or factors of your own.
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
        drawn = torch.randn(h * problem.rank * (p + q), generator=draw, dtype=problem.y.dtype)
        factors = problem.split(drawn.to(problem.y.device))
    else:
        raise SettingsError(f"start is 'spectral', 'random' or Factors, not {start!r}")
    image = problem.misfit(factors.product) + problem.y
    size, goal = float(image.norm()), float(problem.y.norm())
    if start == "spectral":
        goal = abs(float(image @ problem.y)) / size if size else 0.0
    root = math.sqrt(goal / size) if size else 0.0
    return Factors(factors.X * root, factors.Y * root)


def recover(
    problem: Problem,
    start: str | Factors = "spectral",
    *,
    max_steps: int = 1000,
    rtol: float | None = None,
    seed: int = 0,
) -> Solution:
    """Solve `problem` by Levenberg–Marquardt on its factors; deterministic for a `seed`.

    Ends when the relative residual is at most `rtol` (default: 50 units of rounding of the dtype), falls no
    more, or `max_steps` are done. Never raises for want of convergence: read `Solution.status` and
    `advice`. Raises `SettingsError` for a start that does not fit, and `TooLargeError` where the
    operator's matrix is too large.
    """
    rtol = 50 * torch.finfo(problem.y.dtype).eps if rtol is None else rtol
    with torch.no_grad():
        begun = start_factors(problem, start, seed=seed)
        fit = levenberg_marquardt(
            lambda w: problem.misfit(problem.split(w).product),
            lambda w: problem.jacobian(problem.split(w)),
            torch.cat([begun.X.reshape(-1), begun.Y.reshape(-1)]),
            scale=problem.scale,
            rtol=rtol,
            max_steps=max_steps,
        )
        factors, status = problem.split(fit.w).balanced(), fit.status
        # the residual of what is handed over, which rounding may have changed
        residuals = (*fit.residuals[:-1], problem.residual(factors.product))
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
        residuals=residuals,
        factors=factors,
        missing_rank=missing,
    )
