"""What a solver of a held problem returns: how it ended, the way down, and how flat it is at the end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from ..outcome import Result, Status
from .held_loss import HeldLoss


class Point(NamedTuple):
    """One point of the way: passes over the data and seconds so far, and the held objective there."""

    passes: float
    seconds: float
    objective: float


@dataclass(frozen=True, kw_only=True)
class StrokeResult(Result):
    """What a solver did to the weights, which it leaves in the model.

    history: begins with the objective at the start, and never rises.
    optimality: norm of the gradient by the weights solved for, at the end.
    optimality_start: the same at the start.

    A pass is one visit of every example, by a forward pass with or without a backward one. `notes` name
    the layers whose problem is singular.
    """

    ADVISES: ClassVar[Mapping[Status, str]] = {
        Status.CONVERGED: "The gradient of the held objective is below the tolerance.",
        Status.LIMIT: "The objective was still falling. For the optimum under this support allow more "
        "sweeps or steps.",
        Status.STALLED: "The objective no longer falls, and the gradient is above the tolerance: compute in "
        "float64, raise the damping, or raise the tolerance.",
        Status.DIVERGED: "The objective was infinite or undefined at the start, and no weight was changed. "
        "Look at the weights and the data.",
    }

    history: list[Point]
    optimality: float
    optimality_start: float

    @property
    def relative(self) -> float:
        """Norm of the gradient at the end over that at the start; 0 where there was none."""
        return self.optimality / self.optimality_start if self.optimality_start else 0.0

    @property
    def objective(self) -> float:
        """Held objective at the end."""
        return self.history[-1].objective

    @property
    def passes(self) -> float:
        """Passes over the data."""
        return self.history[-1].passes

    @property
    def seconds(self) -> float:
        """Time taken."""
        return self.history[-1].seconds


class Track:
    """Keeps the history while a solver works on `problem`."""

    def __init__(self, problem: HeldLoss) -> None:
        self.points: list[Point] = []
        self._problem, self._passes, self._start = problem, problem.passes, time.perf_counter()

    def add(self, objective: float) -> None:
        """The objective is known here; of a value that is higher than the last, the last is kept."""
        if self.points and not objective <= self.points[-1].objective:
            objective = self.points[-1].objective
        passes = self._problem.passes - self._passes
        self.points.append(Point(passes, time.perf_counter() - self._start, objective))

    def result(
        self,
        status: Status,
        optimality: float,
        start: float,
        detail: str = "",
        notes: Iterable[str] = (),
    ) -> StrokeResult:
        """The result, with the figures of the way in its detail."""
        first, last = self.points[0], self.points[-1]
        told = f"objective {first.objective:.6g} → {last.objective:.6g} in {last.passes:.1f} passes"
        return StrokeResult(
            status=status,
            detail=f"{told}; {detail}" if detail else told,
            history=self.points,
            optimality=optimality,
            optimality_start=start,
            notes=list(notes),
        )
