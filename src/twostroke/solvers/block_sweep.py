"""Block-exact sweeps: solve for one layer's weights after another, each a convex problem once held."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SettingsError
from ..outcome import Status
from .conjugate import Conjugate, conjugate_gradients
from .curvature import Curvature, flat, named, refuse_crooked
from .held_loss import Block, HeldLoss, Look, norm
from .result import StrokeResult, Track

_ARMIJO = 1e-4
_HALVINGS = 30


@dataclass(frozen=True, kw_only=True)
class BlockSweep:
    """Newton's method by conjugate gradients on one layer after another, the last layer first.

    With the support and the other layers held the output is affine in one layer's weights. Squared loss
    is then linear least squares, which one Newton step solves (conjugate gradients on the normal
    equations); any convex loss, such as cross-entropy, is convex. Steps are halved until the objective
    over all examples falls by Armijo's rule, so that it never rises. Finding that length costs no pass,
    since the outputs are affine along the step.

    sweeps: visits of every layer.
    steps: products with the Hessian for one Newton step, at most; each costs what a gradient costs.
    residual: conjugate gradients stop at this share of the layer's gradient.
    damping: added to the Hessian, relative to its curvature along the gradient.
    layers: solve for these only, by module path.
    tolerance: CONVERGED when the gradient by all weights solved for has fallen to this share.
    """

    sweeps: int = 1
    steps: int = 10
    residual: float = 1e-3
    damping: float = 1e-3
    layers: tuple[str, ...] | None = None
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("sweeps", "steps"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is a number of 1 or more, not {getattr(self, name)}")
        for name in ("residual", "damping", "tolerance"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"{name} must not be negative, as {getattr(self, name)} is")

    def solve(self, problem: HeldLoss) -> StrokeResult:
        """Sweep; the weights are changed in place, and never for worse.

        Raises, before any work, `SettingsError` for unknown `layers`, and `UnholdableError` for a layer in
        whose weights the held network is not affine.
        """
        blocks = self._blocks(problem)
        refuse_crooked(problem, blocks)
        with problem.solving():
            return _Sweeps(self, problem, blocks).run()

    def _blocks(self, problem: HeldLoss) -> list[Block]:
        blocks = problem.blocks[::-1]
        if self.layers is None:
            return blocks
        known = [block.layer for block in problem.blocks]
        for layer in self.layers:
            if layer not in known:
                raise SettingsError(
                    f"layer {layer!r} has no weights to solve for: there are {', '.join(known)}"
                )
        return [block for block in blocks if block.layer in self.layers]


class _Sweeps:
    def __init__(self, settings: BlockSweep, problem: HeldLoss, blocks: Sequence[Block]) -> None:
        self.settings, self.problem, self.blocks = settings, problem, blocks
        self.names = [name for block in blocks for name in block.names]
        self.track = Track(problem)
        self.notes: dict[str, str] = {}
        self.undo: dict[str, Tensor] = {}  # weights before the last step
        self.last = math.inf  # objective before it

    def run(self) -> StrokeResult:
        settings = self.settings
        look = self._look(self.names)
        first = flatness = norm(look.gradient)
        if not (math.isfinite(look.value) and math.isfinite(first)):
            return self.track.result(Status.DIVERGED, first, first)
        if first == 0:
            return self.track.result(Status.CONVERGED, first, first)
        eps = torch.finfo(self.problem.weights[self.names[0]].dtype).eps
        status, done = Status.LIMIT, 0
        for done in range(1, settings.sweeps + 1):  # noqa: B007
            before = look.value
            for place, block in enumerate(self.blocks):
                if place:
                    look = self._look(block.names)
                self._step(block, look)
            look = self._look(self.names)
            flatness = norm(look.gradient)
            if flatness <= settings.tolerance * first:
                status = Status.CONVERGED
                break
            if before - look.value <= eps * abs(before):
                status = Status.STALLED
                break
        detail = f"{done} of {settings.sweeps} sweeps"
        return self.track.result(status, flatness, first, detail, self.notes.values())

    def _look(self, names: Sequence[str]) -> Look:
        """Look, and take the last step back if rounding has made it one upwards."""
        look = self.problem.look(names)
        if not look.value <= self.last and self.undo:
            self.problem.put(self.undo)
            look = self.problem.look(names)
        self.undo, self.last = {}, look.value
        self.track.add(look.value)
        return look

    def _step(self, block: Block, look: Look) -> None:
        """One Newton step on a block, if any length of it lowers the objective."""
        settings, problem = self.settings, self.problem
        gradient = flat(look.gradient, block.names)
        curvature = Curvature(problem, block, look)
        along = [torch.zeros_like(o) for o in look.outputs]  # J times the step

        def moved(alpha: float) -> None:
            for t, step in zip(along, curvature.along, strict=True):
                t.add_(step, alpha=alpha)

        found = conjugate_gradients(
            curvature.product,
            -gradient,
            steps=settings.steps,
            residual=settings.residual,
            damping=settings.damping,
            moved=moved,
        )
        self._note(block, found, look, gradient - problem.weight_decay * curvature.w)
        length = self._length(look, along, curvature.w, found.x, gradient)
        if length:
            self.undo, self.last = problem.copy(block.names), look.value
            problem.put(named(curvature.w + length * found.x, block.names, problem.weights))

    def _length(
        self, look: Look, along: list[Tensor], w: Tensor, step: Tensor, gradient: Tensor
    ) -> float:
        """Length of the step by halving from 1 (Armijo), on the outputs alone; 0 when none will do."""
        problem = self.problem
        slope = float(torch.dot(gradient.double(), step.double()))
        if not slope < 0:
            return 0.0
        linear = problem.weight_decay * float(torch.dot(w.double(), step.double()))
        square = problem.weight_decay / 2 * float(step.double().square().sum())

        def rise(length: float) -> float:
            total = linear * length + square * length**2
            for part, o, t in zip(problem.parts, look.outputs, along, strict=True):
                y = part.y.double() if part.y.is_floating_point() else part.y
                o = o.double()
                difference = problem.loss(o + length * t.double(), y) - problem.loss(o, y)
                total += len(o) / problem.examples * float(difference)
            return total

        length = 1.0
        for _ in range(_HALVINGS):
            if rise(length) <= _ARMIJO * length * slope:
                return length
            length /= 2
        return 0.0

    def _note(self, block: Block, found: Conjugate, look: Look, pull: Tensor) -> None:
        """Name blocks whose problem has no single solution, or whose conditioning is beyond reach.

        `pull` is the loss's own gradient, without weight decay: exactly 0 for weights of no influence.
        """
        problem, layer = self.problem, block.layer or "the model itself"
        equations = sum(o.numel() for o in look.outputs)
        low, high, idle = found.lowest, found.highest, int((pull == 0).sum())
        damped = f"damped by {found.damping:.2g}" if found.damping else "not damped"
        eps = torch.finfo(problem.weights[block.names[0]].dtype).eps
        if block.size > equations and not problem.weight_decay:
            self.notes[layer] = (
                f"{layer}: {block.size:,} weights for {equations:,} outputs, so that many weights do "
                f"equally well; the nearest are taken ({damped})"
            )
        elif idle and not problem.weight_decay:
            self.notes[layer] = (
                f"{layer}: {idle:,} of {block.size:,} weights have no influence on any example (units that "
                f"are off for all of them); they stay as they are ({damped})"
            )
        elif found.flat or (high > 0 and low <= 10 * eps * high):
            self.notes[layer] = (
                f"{layer}: singular to rounding, curvatures from {max(low, 0.0):.1e} to {high:.1e} "
                f"({damped}); weight decay makes the solution unique"
            )
