"""L-BFGS over a whole weight stroke, on all layers at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ..errors import SettingsError
from .held_loss import HeldLoss, norm
from .result import Callback, StrokeCode, StrokeResult, Track


@dataclass(frozen=True, kw_only=True)
class LBFGS:
    """torch's L-BFGS with a strong Wolfe line search on the held objective over all examples.

    The best weights it visits are kept, so that the objective never rises, whatever the line search
    does. All layers move together, where the held objective is not convex: what is found is a
    stationary point.

    steps: iterations; each takes one or more evaluations of value and gradient (a pass each).
    history: pairs of steps and gradient changes that model the curvature.
    tolerance: CONVERGED when the gradient has fallen to this share.
    """

    steps: int = 20
    history: int = 10
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if self.steps < 1 or self.history < 1:
            raise SettingsError(
                f"steps and history are numbers of 1 or more, not {self.steps}, {self.history}"
            )
        if not self.tolerance >= 0:
            raise SettingsError(f"tolerance must not be negative, as {self.tolerance} is")

    def check(self, problem: HeldLoss) -> None:
        """Any model that can be held will do."""

    def solve(self, problem: HeldLoss, *, callback: Callback | None = None) -> StrokeResult:
        """Descend; the weights are changed in place. `callback`: see `StrokeSolver`."""
        with problem.solving():
            return self._solve(problem, callback)

    def _solve(self, problem: HeldLoss, callback: Callback | None) -> StrokeResult:
        track, start = Track(), problem.passes
        trial = {name: nn.Parameter(w.contiguous()) for name, w in problem.copy().items()}
        best, flatness, first = math.inf, math.nan, math.nan

        def closure() -> float:
            nonlocal best, flatness, first
            look = problem.look(at={n: p.detach() for n, p in trial.items()})
            for name, p in trial.items():
                p.grad = look.gradient[name].contiguous()  # torch's L-BFGS takes views of it
            size = norm(look.gradient)
            if math.isnan(first):
                first = size
            if look.value < best and math.isfinite(size):
                best, flatness = look.value, size
                problem.put({n: p.detach() for n, p in trial.items()})
            track.add(problem.passes - start, look.value)
            return look.value

        begun = closure()
        if not (math.isfinite(begun) and math.isfinite(first)):
            return StrokeResult(StrokeCode.NOT_FINITE, track.points, first, first)
        largest = max(
            (float(p.grad.abs().max()) for p in trial.values() if p.grad is not None), default=0.0
        )
        optimizer = torch.optim.LBFGS(
            list(trial.values()),
            max_iter=self.steps,
            max_eval=3 * self.steps,
            history_size=self.history,
            tolerance_grad=self.tolerance
            * largest
            / max(sum(p.numel() for p in trial.values()), 1) ** 0.5,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )
        code = StrokeCode.STALLED
        try:
            optimizer.step(_told(closure, begun, callback, 3 * self.steps))
        except _Stopped:
            code = StrokeCode.STOPPED
        taken = int(optimizer.state[next(iter(trial.values()))]["n_iter"])
        if flatness <= self.tolerance * first:
            code = StrokeCode.CONVERGED
        elif code is StrokeCode.STALLED and (
            taken >= self.steps or len(track.points) > 3 * self.steps
        ):
            code = StrokeCode.MAX_STEPS
        return StrokeResult(
            code, track.points, flatness, first, f"{taken} of {self.steps} iterations"
        )


class _Stopped(Exception):
    pass


def _told(
    closure: Callable[[], float], begun: float, callback: Callback | None, budget: int
) -> Callable[[], float]:
    """The closure, which tells the callback; its first call is answered with what is known already."""
    calls = 0

    def count() -> float:
        nonlocal calls
        value = closure() if calls else begun  # gradients of the beginning are in place
        calls += 1
        if callback is not None and callback(min(1.0, calls / budget)):
            raise _Stopped
        return value

    return count
