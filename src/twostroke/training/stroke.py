"""Weight strokes by a stroke-wise solver: what `fit` does in place of an epoch of steps."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from ..alternation import Alternation, Alternator, InstanceWise, Processes
from ..data import ExampleSource
from ..errors import SettingsError
from ..solvers import Callback, HeldLoss, Part, StrokeResult, StrokeSolver
from ..support import record
from ..support.modes import evaluating
from .evaluate import Loss
from .settings import Settings

CHUNK = 500


def refuse_solver(
    solver: StrokeSolver | None, alternation: Alternation, processes: Processes
) -> None:
    """Raise `SettingsError` where there are no weight strokes to solve, or not linear ones."""
    if solver is None:
        return
    name = type(solver).__name__
    if processes.count > 1:
        raise SettingsError(
            f"{name} solves a weight stroke in one process, and this run has {processes.count}: "
            "solver='steps' with several"
        )
    if not isinstance(alternation, InstanceWise):
        raise SettingsError(
            f"{name} solves weight strokes under stored masks, which only instance-wise alternation "
            "has: alternation=InstanceWise(...) with it, or solver='steps'"
        )
    if alternation.gated or alternation.penalty:
        raise SettingsError(
            f"{name} needs a held network that is affine in each layer's weights: gated=False and "
            "penalty=0 with it, or solver='steps'"
        )


def check_solver(
    solver: StrokeSolver,
    model: nn.Module,
    source: ExampleSource,
    alternation: Alternation,
    loss: Loss,
    settings: Settings,
) -> None:
    """Try a few examples, so that a model the solver cannot treat is refused before any training."""
    assert isinstance(alternation, InstanceWise)
    device = next(model.parameters()).device
    x, y = source.batch(torch.arange(min(4, len(source))), view=0, seed=settings.seed)
    x, y = x.to(device), y.to(device)
    with evaluating(model):
        support = record(model, x, rule=alternation.rule, pooling=alternation.pooling)
    solver.check(HeldLoss.of(model, support, x, y, loss=loss))


def solve_stroke(
    solver: StrokeSolver,
    model: nn.Module,
    source: ExampleSource,
    alternator: Alternator,
    shuffled: Tensor,  # (examples,)
    loss: Loss,
    settings: Settings,
    callback: Callback,
) -> tuple[StrokeResult, float]:
    """One call of the solver on all examples; gives its result and the mean held loss at the end."""
    problem = HeldLoss(
        model,
        _Parts(source, alternator, shuffled, settings),
        loss=loss,
        weight_decay=5e-4 if settings.weight_decay is None else settings.weight_decay,
    )
    result = solver.solve(problem, callback=callback)
    return result, result.objective - problem.decay()


def advance(scheduler: LRScheduler, steps: int) -> None:
    """Move the schedule on by an epoch without steps: it is one of progress through the run."""
    with warnings.catch_warnings():
        # it expects a step of the optimiser first, and a run may begin with a weight stroke
        warnings.filterwarnings("ignore", "Detected call of", UserWarning)
        for _ in range(steps):
            scheduler.step()


def notes_of(epoch: int, result: StrokeResult) -> list[str]:
    """What a user should know of a stroke, a line each."""
    return [
        f"weight stroke of epoch {epoch + 1}: {result}. {result.code.value}",
        *result.notes,
    ]


class _Parts(Sequence[Part]):
    """Examples in chunks, made on access: images from the source, masks from the alternation's store."""

    def __init__(
        self, source: ExampleSource, alternator: Alternator, shuffled: Tensor, settings: Settings
    ) -> None:
        self.source, self.alternator = source, alternator
        self.chunks = shuffled.split(CHUNK)
        self.seed = settings.seed
        self.channels_last = settings.channels_last
        self.device = next(alternator.model.parameters()).device

    def __len__(self) -> int:
        return len(self.chunks)

    @overload
    def __getitem__(self, index: int) -> Part: ...
    @overload
    def __getitem__(self, index: slice) -> list[Part]: ...

    def __getitem__(self, index: int | slice) -> Part | list[Part]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        indices = self.chunks[index]  # an IndexError ends an iteration
        x, y = self.source.batch(indices, view=self.alternator.view, seed=self.seed)
        x = x.to(self.device, non_blocking=True)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        support = self.alternator.held_support(indices)
        assert support is not None, "a stroke-wise solver was called outside of a weight stroke"
        return Part(x, y.to(self.device, non_blocking=True), support)
