"""L-BFGS over a whole weight stroke, on all layers at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from ..errors import SettingsError
from ..outcome import Status
from .held_loss import HeldLoss, norm
from .result import StrokeResult, Track


@dataclass(frozen=True, kw_only=True)
class LBFGS:
    """torch's L-BFGS with a strong Wolfe line search on the held objective over all examples.

    The best weights that it visits are kept, so that the objective never rises. All layers move together,
    and in all of them the held objective is not convex: what is found is a stationary point. Any model
    that can be held will do.

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

    def solve(self, problem: HeldLoss) -> StrokeResult:
        """Descend; the weights are changed in place, and never for worse."""
        with problem.solving():
            return self._solve(problem)

    def _solve(self, problem: HeldLoss) -> StrokeResult:
        track = Track(problem)
        trial = {name: nn.Parameter(w.contiguous()) for name, w in problem.copy().items()}
        best, flatness = math.inf, math.nan

        def closure() -> float:
            nonlocal best, flatness
            look = problem.look(at={n: p.detach() for n, p in trial.items()})
            for name, p in trial.items():
                p.grad = look.gradient[name].contiguous()  # torch's L-BFGS takes views of it
            size = norm(look.gradient)
            if look.value < best and math.isfinite(size):
                best, flatness = look.value, size
                problem.put({n: p.detach() for n, p in trial.items()})
            track.add(look.value)
            return look.value

        value = closure()
        first = norm({n: p.grad for n, p in trial.items() if p.grad is not None})
        if not (math.isfinite(value) and math.isfinite(first)):
            return track.result(Status.DIVERGED, first, first)
        optimizer = torch.optim.LBFGS(
            list(trial.values()),
            max_iter=self.steps,
            max_eval=3 * self.steps,
            history_size=self.history,
            # it looks at the largest entry: no entry above this, and the norm is below the tolerance
            tolerance_grad=self.tolerance * first / sum(p.numel() for p in trial.values()) ** 0.5,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )
        optimizer.step(closure)
        taken = int(optimizer.state[next(iter(trial.values()))]["n_iter"])
        if flatness <= self.tolerance * first:
            status = Status.CONVERGED
        elif taken >= self.steps or len(track.points) > 3 * self.steps:
            status = Status.LIMIT
        else:
            status = Status.STALLED
        return track.result(status, flatness, first, f"{taken} of {self.steps} iterations")
