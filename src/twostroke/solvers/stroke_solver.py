"""What a stroke-wise solver is to those who call one."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from .held_loss import HeldLoss
from .result import Callback, StrokeResult


@runtime_checkable
class StrokeSolver(Protocol):
    """Solves, or goes some way towards solving, one weight stroke under a support that stays."""

    def check(self, problem: HeldLoss) -> None:
        """Raise for a model that this solver cannot treat, before any work is done."""
        ...

    def solve(self, problem: HeldLoss, *, callback: Callback | None = None) -> StrokeResult:
        """Change the weights in place, never for worse.

        `callback` receives the share of the budget that is done; where it returns True the stroke ends there.
        """
        ...
