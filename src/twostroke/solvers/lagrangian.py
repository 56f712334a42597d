"""Augmented Lagrangian for a weight stroke: with pre-activations split off, all is least squares."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SettingsError, UnholdableError
from ..outcome import Status
from .conjugate import conjugate_gradients
from .curvature import flat, loss_curvature, named
from .held_loss import HeldLoss, norm
from .result import StrokeResult, Track
from .stages import Stage, Stages, stages


@dataclass(frozen=True, kw_only=True)
class AugmentedLagrangian:
    """Alternating directions on the constraints `q_l = W_l z_{l-1}`, with `z_l = m_l ∘ q_l` held.

    Every layer's pre-activations for all examples become unknowns q_l, tied to the weights by
    multipliers u_l and a quadratic price: an iteration solves for each q_l (last first), then for each W_l
    (first first), both least squares by conjugate gradients, the last q_l against the loss itself;
    then u_l grow by what is violated. Weights are looked at in the held network after each iteration,
    and the best are kept: the objective never rises, though the iteration need not be going down.

    For models in sequence (see `stages`). All examples and all pre-activations are in memory at once.

    steps: iterations.
    inner: conjugate gradient steps for each of the least-squares problems.
    rho: price of the violation, relative to the loss of one example.
    tolerance: CONVERGED when the gradient of the held objective has fallen to this share.
    """

    steps: int = 20
    inner: int = 5
    rho: float = 1.0
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if self.steps < 1 or self.inner < 1:
            raise SettingsError(
                f"steps and inner are numbers of 1 or more, not {self.steps}, {self.inner}"
            )
        if not (math.isfinite(self.rho) and self.rho > 0):
            raise SettingsError(f"rho is a price above 0, not {self.rho}")
        if not self.tolerance >= 0:
            raise SettingsError(f"tolerance must not be negative, as {self.tolerance} is")

    def solve(self, problem: HeldLoss) -> StrokeResult:
        """Iterate; the weights are changed in place, and never for worse.

        Raises `UnholdableError` before any work for a model that is not a chain of layers.
        """
        with problem.solving():
            return _Splitting(self, problem).run()


class _Splitting:
    def __init__(self, settings: AugmentedLagrangian, problem: HeldLoss) -> None:
        self.settings, self.problem = settings, problem
        self.read: Stages = stages(problem)
        self.w = problem.copy()
        self.q = _forward(self.read, self.w)
        self._refuse_other_forward()
        self.u = [torch.zeros_like(q) for q in self.q]
        self.one = 1 / len(self.q)  # share of a pass that a product with one layer is

    def _refuse_other_forward(self) -> None:
        """Raise `UnholdableError` where the stages do not add up to the model."""
        part = self.problem.parts[0]
        ours = self.read.stages[-1].between(self.q[-1])[: len(part.y)]
        theirs = self.problem.output(part, {})
        if not torch.allclose(
            ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()), equal_nan=True
        ):
            raise UnholdableError(
                "the model's forward pass is not its layers in sequence (a hook, or a forward of its "
                "own): use BlockSweep"
            )

    def run(self) -> StrokeResult:
        settings, problem, track = self.settings, self.problem, Track(self.problem)
        look = problem.look()
        best, first = look.value, norm(look.gradient)
        flatness = first
        track.add(best)
        if not (math.isfinite(best) and math.isfinite(first)):
            return track.result(Status.DIVERGED, first, first)
        status, at, step = Status.LIMIT, 0, 0
        for step in range(1, settings.steps + 1):
            self._outputs()
            self._weights()
            violated = self._multipliers()
            look = problem.look(at=self.w)
            size = norm(look.gradient)
            if look.value < best and math.isfinite(size):
                best, flatness, at = look.value, size, step
                problem.put(self.w)
            track.add(look.value)
            if flatness <= settings.tolerance * first:
                status = Status.CONVERGED
                break
            if not math.isfinite(violated):
                status = Status.STALLED
                break
        if status is Status.LIMIT and at == 0:
            status = Status.STALLED
        detail = (
            f"best at iteration {at} of {step}; constraints violated by {violated:.1e} at the end"
        )
        return track.result(status, flatness, first, detail)

    def _met(self, k: int) -> Tensor:
        """What layer k meets."""
        return self.read.x if k == 0 else self.read.stages[k - 1].between(self.q[k - 1])

    def _outputs(self) -> None:
        """Solve for the pre-activations, last layer first."""
        last = len(self.q) - 1
        for k in range(last, -1, -1):
            aim = self.read.stages[k].run(self._met(k), self.w) - self.u[k]
            self.problem.passes += self.one
            self.q[k] = self._against_loss(aim) if k == last else self._against_next(k, aim)

    def _against_loss(self, aim: Tensor) -> Tensor:
        """`min Σ loss(q) + ρ/2 ‖q - aim‖²` by Newton's method, from `aim`."""
        read, loss, rho = self.read, self.problem.loss, self.settings.rho
        n, between, q = len(aim), read.stages[-1].between, aim

        def outputs_loss(q: Tensor, y: Tensor) -> Tensor:
            return loss(between(q), y)

        for _ in range(3):
            with torch.enable_grad():
                leaf = q.detach().requires_grad_()
                (g,) = torch.autograd.grad(outputs_loss(leaf, read.y), leaf)
            g = n * g + rho * (q - aim)

            def product(v: Tensor, q: Tensor = q) -> Tensor:
                bent = loss_curvature(outputs_loss, q, read.y, v.view_as(q))
                return n * bent.reshape(-1) + rho * v

            q = q + conjugate_gradients(product, -g.reshape(-1), steps=10).x.view_as(q)
        return q

    def _against_next(self, k: int, aim: Tensor) -> Tensor:
        """`min ‖q - aim‖² + ‖q_{k+1} + u_{k+1} - layer_{k+1}(between q)‖²`, from where q is."""
        here, after = self.read.stages[k], self.read.stages[k + 1]
        return self._least_squares(
            lambda q: after.run(here.between(q), self.w),
            self.q[k + 1] + self.u[k + 1],
            self.q[k],
            toward=aim,
        )

    def _weights(self) -> None:
        """Solve for each layer's weights by least squares, from where they are."""
        for k, stage in enumerate(self.read.stages):
            if not stage.names:
                continue
            z, w = self._met(k), flat(self.w, stage.names)

            def of_weights(w: Tensor, stage: Stage = stage, z: Tensor = z) -> Tensor:
                return stage.run(z, named(w, stage.names, self.w))

            found = self._least_squares(
                of_weights,
                self.q[k] + self.u[k],
                w,
                toward=torch.zeros_like(w),
                price=self.problem.weight_decay * len(z) / self.settings.rho,
                damping=1e-8,
            )
            self.w |= named(found, stage.names, self.w)

    def _least_squares(
        self,
        f: Callable[[Tensor], Tensor],
        target: Tensor,
        start: Tensor,
        *,
        toward: Tensor,
        price: float = 1.0,
        damping: float = 0.0,
    ) -> Tensor:
        """`min ‖target - f(v)‖² + price ‖v - toward‖²` for an affine f, from `start`."""
        origin = f(torch.zeros_like(start))
        now, back, *_ = torch.func.vjp(f, start)

        def product(v: Tensor) -> Tensor:
            v = v.view_as(start)
            bent: Tensor = back(f(v) - origin)[0]
            return (bent + price * v).reshape(-1)

        rest = back(target - now)[0] + price * (toward - start)
        found = conjugate_gradients(
            product, rest.reshape(-1), steps=self.settings.inner, damping=damping
        )
        self.problem.passes += self.one * (found.steps + 3)
        return start + found.x.view_as(start)

    def _multipliers(self) -> float:
        """Add what is violated to the multipliers; gives its share of the pre-activations."""
        square, size = 0.0, 0.0
        for k, stage in enumerate(self.read.stages):
            gap = self.q[k] - stage.run(self._met(k), self.w)
            self.u[k] = self.u[k] + gap
            square += float(gap.double().square().sum())
            size += float(self.q[k].double().square().sum())
        self.problem.passes += 1
        return (square / size) ** 0.5 if size else square


def _forward(read: Stages, weights: dict[str, Tensor]) -> list[Tensor]:
    q, z = [], read.x
    for stage in read.stages:
        q.append(stage.run(z, weights))
        z = stage.between(q[-1])
    return q
