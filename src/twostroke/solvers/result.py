"""What a stroke-wise solver returns: a code with advice, the way down, and how flat it is at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class StrokeCode(Enum):
    """How a weight stroke ended; the value is the advice that goes with it."""

    CONVERGED = "The gradient of the held objective is below the tolerance."
    MAX_STEPS = (
        "The budget is spent and the objective was still falling. That is usual within an alternation; "
        "for the optimum under this support raise the number of sweeps or steps."
    )
    STALLED = (
        "The objective no longer falls although the gradient is above the tolerance: rounding (compute in "
        "float64), a direction without curvature (raise the damping), or a tolerance that is too strict."
    )
    STOPPED = "The caller ended it, as an alternation does whose drift limit is reached."
    NOT_FINITE = (
        "The objective was undefined or infinite at the start; nothing was changed. Look at the weights "
        "and the data."
    )


# receives the share of the budget that is done; True ends the stroke there
Callback = Callable[[float], bool | None]


class Point(NamedTuple):
    """One point of the way: passes over the data and seconds so far, and the held objective there."""

    passes: float
    seconds: float
    objective: float


@dataclass(frozen=True)
class StrokeResult:
    """What a solver did to the weights, which it leaves in the model.

    `history` begins with the objective at the start, and never rises. `optimality` is the norm of the
    gradient by all trained weights at the end, `optimality_start` at the start; `relative` is their
    ratio. A pass is one visit of every example, by a forward pass with or without a backward one.
    `notes` name what is singular or otherwise worth knowing, a line each.
    """

    code: StrokeCode
    history: list[Point]
    optimality: float
    optimality_start: float
    detail: str = ""
    notes: list[str] = field(default_factory=list)

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

    def __str__(self) -> str:
        return (
            f"{self.code.name}: objective {self.history[0].objective:.6g} → {self.objective:.6g}, "
            f"gradient {self.relative:.2g} of the start's, {self.passes:.1f} passes, "
            f"{self.seconds:.1f} s" + (f" ({self.detail})" if self.detail else "")
        )


class Track:
    """Keeps the history while a solver runs."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._start = time.perf_counter()

    def add(self, passes: float, objective: float) -> None:
        """The objective is known here; of a value that is higher than the last, the last is kept."""
        if self.points and not objective <= self.points[-1].objective:
            objective = self.points[-1].objective
        self.points.append(Point(passes, time.perf_counter() - self._start, objective))
