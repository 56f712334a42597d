"""How many measurements a method needs: share of recoveries over measurements per degree of freedom."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ..operator import gaussian_operator
from .driver import Solver, recover
from .problem import Problem

ERROR = 1e-6  # of a success, relative


@dataclass(frozen=True)
class PhasePoint:
    """One method at one number of measurements.

    `successes` of `trials` came within `ERROR` of the truth; `steps` is their median
    number of steps and `worst_error` the largest relative error among them (NaN without
    successes).
    """

    solver: str
    oversampling: float
    measurements: int
    trials: int
    successes: int
    steps: float
    worst_error: float

    @property
    def rate(self) -> float:
        """Share of successes."""
        return self.successes / self.trials


@dataclass(frozen=True)
class PhaseDiagram:
    """Success of several methods on Gaussian sensing of p × q matrices of a rank."""

    shape: tuple[int, int]
    rank: int
    points: tuple[PhasePoint, ...]

    def curve(self, solver: str) -> tuple[list[float], list[float]]:
        """Oversampling and success rate of one method, ready to plot."""
        points = [point for point in self.points if point.solver == solver]
        return [p.oversampling for p in points], [p.rate for p in points]


def phase_diagram(
    shape: tuple[int, int],
    rank: int,
    oversampling: Sequence[float],
    solvers: Mapping[str, Solver],
    *,
    trials: int = 10,
    max_steps: int = 500,
    seed: int = 0,
) -> PhaseDiagram:
    """Gaussian operators and Gaussian truths; every method meets the same draws.

    `oversampling` counts measurements per degree of freedom, rank · (p + q - rank). A trial
    succeeds where ‖V - truth‖ ≤ `ERROR` ‖truth‖; starts are spectral.
    """
    p, q = shape
    points = []
    for factor in oversampling:
        m = math.ceil(factor * rank * (p + q - rank))
        ended: dict[str, list[tuple[float, int]]] = {name: [] for name in solvers}
        for trial in range(trials):
            draw = torch.Generator().manual_seed(1_000_003 * seed + trial)
            X, Y = (torch.randn(n, rank, generator=draw, dtype=torch.float64) for n in shape)
            truth = (X @ Y.T)[None]
            operator = gaussian_operator(m, p, q, seed=1_000_003 * seed + 500_000 + trial)
            problem = Problem(operator, operator.matvec(truth.reshape(-1)), rank)
            for name, solver in solvers.items():
                found = recover(problem, solver, max_steps=max_steps, seed=trial)
                ended[name].append((found.error(truth), found.steps))
        for name, runs in ended.items():
            good = [run for run in runs if run[0] <= ERROR]
            points.append(
                PhasePoint(
                    name, factor, m, trials, len(good),
                    statistics.median([n for _, n in good]) if good else math.nan,
                    max((e for e, _ in good), default=math.nan),
                )
            )  # fmt: skip
    return PhaseDiagram(shape, rank, tuple(points))
