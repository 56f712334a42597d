"""The driver: `fit` trains a model by any kind of alternation, or by none, in one and the same loop."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import nn

from .._generators import generators_kept
from ..alternation import Alternation, Live
from ..data import as_data
from ..errors import RunFolderError, SettingsError
from ..outcome import Status
from ..processes import Processes
from ..runs import Checkpoint, History, alone, in_words, make_folder, resumable
from .evaluate import Loss
from .listener import Listener
from .loop import Diverged, Loop
from .objective import Objective
from .result import FitResult, divergence
from .settings import Settings
from .trial import try_run


def fit(
    model: nn.Module,
    data: object,
    *,
    alternation: Alternation | None = None,
    settings: Settings | None = None,
    loss: Loss = F.cross_entropy,
    objective: Objective | None = None,
    listener: Listener | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    identity: Mapping[str, Any] | None = None,
    **changes: Any,
) -> FitResult:
    """Train `model`, in place, and say how it went; it is left in evaluation mode.

    `data` is a `Data`, `(x, y)` or `(x, y, x_test, y_test)` tensors, or a pair of map-style data sets.
    `alternation` is `InstanceWise(...)`, `BatchWise(...)`, a kind of your own, or None for ordinary
    training. `settings` say how to train; single ones may be given by name: `fit(model, data, epochs=5,
    lr=0.2)`. `loss` is what evaluations report, and what a step descends on unless an `objective` says
    otherwise: the mean over a batch, weighted or not, or with `reduction="sum"` the sum; figures are means.
    Weights that it has of its own are trained too.

    Modules that are in evaluation mode while others are not stay so, and so do those with parameters none
    of which trains; batch norm keeps its statistics there. A run is tried before it trains: a step of each
    kind on the smallest batch that will come, after which all is as before.

    Launched as several processes (`torchrun`, `accelerate launch`), each calls `fit` with the same
    arguments and gets the same result: the run is the one that a single process would make. Then the
    main process tells the `listener` and writes to the `folder`.

    With a `folder`, a checkpoint is written there after each epoch, and every `checkpoint_minutes` within
    one. `resume=True` goes on from the last, exactly (on a CPU); without it a folder that has a checkpoint is
    refused, as is one in which another process trains now. Settings must be those of before, but for
    `runs.changes.FREE` (more epochs, another device) and, where the run has diverged,
    `runs.changes.REMEDIES` (a lower lr). With other epochs or another lr the
    schedule is made again, and stepped to where the run is. `identity` is whatever else must be equal for all
    that to make sense.

    Ctrl-C ends the run after the step under way with status INTERRUPTED, and a checkpoint there. It ends
    with DIVERGED and the weights of the last good epoch where a loss is undefined, or an epoch's mean loss is
    more than five times that before training (or log(classes), which is chance, if that is more), or, under
    held masks, the live loss is, and more than five times that with which the round began. Random generators
    (PyTorch, NumPy, Python) are seeded for each epoch, and left as they were.

    Raises before any training `SettingsError`, `DataError`, `UnholdableError` for a model that cannot be
    held, and `TooLargeError` where masks fit nowhere; after one step, which is taken back, `SettingsError`
    where no checkpoint can keep the optimiser's state. A disk that is full or a damaged file ends a run with
    `RunFolderError`, `StoreError` or `SupportFileError`; the last checkpoint stays.
    """
    settings = (settings or Settings()).but(**changes)
    if not isinstance(alternation, Alternation | None):
        raise SettingsError(
            "alternation is an object with its settings, as in twostroke.InstanceWise(warmup=2), "
            f"twostroke.BatchWise() or None for ordinary training, not {alternation!r}"
        )
    if resume and folder is None:
        raise SettingsError("resume=True needs the folder that holds the checkpoint")
    place = None if folder is None else Path(folder)
    processes = settings.processes()
    if listener is None or not processes.main:
        listener = Listener()
    with generators_kept(settings.torch_device()):
        with processes.together():
            if place is not None and not resume and resumable(place):
                raise RunFolderError(
                    f"{place} holds a run's checkpoint: go on with it by resume=True, or choose another "
                    "folder"
                )
        loop = Loop(
            model,
            as_data(data),
            alternation=alternation or Live(),
            settings=settings,
            loss=loss,
            objective=objective or Objective(loss),
            listener=listener,
            processes=processes,
            folder=place,
        )
        try:
            with _alone(place, processes):
                return _run(loop, listener, place, resume, dict(identity or {}))
        finally:
            loop.alternator.close()


def _run(
    loop: Loop,
    listener: Listener,
    folder: Path | None,
    resume: bool,
    identity: dict[str, Any],
) -> FitResult:
    model, settings, processes = loop.model, loop.settings, loop.processes
    try_run(loop)
    first = loop.first_loss()
    checkpoint = None
    if folder is not None:
        with processes.together():
            checkpoint = Checkpoint(folder, processes)
            checkpoint.check(loop)
    history = History()
    notes = list(loop.alternator.notes)
    trained: list[nn.Module] = [model] if loop.average is None else [model, loop.average]
    good = [_weights(one) for one in trained]
    identity = _told(settings) | identity
    if checkpoint is not None:
        if resume:
            with processes.together():
                found = checkpoint.load(loop, identity)
                history, good = found.history, found.good or good
                if len(history) > settings.epochs:
                    raise SettingsError(
                        f"{len(history)} epochs were run already: epochs must be {len(history)} or more, not "
                        f"{settings.epochs}"
                    )
            notes = [*loop.alternator.notes, *_going_on(loop, found.changed), *checkpoint.notes]
            if checkpoint.diverged and not found.changed:
                notes.append(
                    "the run diverged here before, with the same settings: a lower lr may help"
                )
        loop.keep = partial(checkpoint.save, loop, history, identity, within=True)
        loop.check = partial(checkpoint.check, loop)
    for text in notes:
        listener.note(text)
    status, detail = Status.FINISHED, ""
    try:
        with _stops(loop), processes.wrapped(model) as loop.net, processes.watching():
            for epoch in range(len(history), settings.epochs):
                if (detail := _on_target(history, settings)) != "":
                    break
                record = loop.epoch(epoch)
                if (why := divergence(record, history, first)) is not None:
                    raise Diverged(f"in epoch {record.epoch}: {why}")
                history.append(record)
                if checkpoint is not None:
                    checkpoint.save(loop, history, identity)
                listener.epoch(record)
                good = [_weights(one) for one in trained]
        if (detail := _on_target(history, settings)) != "":
            status = Status.TARGET
    except Diverged as error:
        for one, weights in zip(trained, good, strict=True):
            one.load_state_dict(weights)
        status, detail = Status.DIVERGED, str(error)
        if checkpoint is not None:
            checkpoint.mark_diverged(detail)
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
        detail = f"in epoch {len(history) + 1} of {settings.epochs}"
        if processes.count == 1 and loop.pause():  # several stop at different steps
            assert loop.part is not None
            detail += f", of which {loop.part.step} of {loop.steps} steps are kept"
    except SettingsError:  # no checkpoint can keep the optimiser's state: before the second step
        for one, weights in zip(trained, good, strict=True):
            one.load_state_dict(weights)
        raise
    if loop.waits and len(history) and history[-1].round == 0:
        notes.append(
            "the loss never came to a plateau, where the warm-up ends: no support was held"
        )
        listener.note(notes[-1])
    average = None if loop.average is None else loop.average.module.eval()
    return FitResult(
        status=status,
        detail=detail,
        notes=notes,
        model=model.eval(),
        history=history,
        average=average,
    )


@contextmanager
def _alone(folder: Path | None, processes: Processes) -> Iterator[None]:
    """Nobody else trains in the folder within the block; refused in every process, or in none."""
    with ExitStack() as stack:
        if folder is not None:
            with processes.together():
                if processes.main:
                    make_folder(folder)
                    stack.enter_context(alone(folder))
        yield


def _stops(loop: Loop) -> AbstractContextManager[Any]:
    """Signals wait for the end of a step; several processes stop at once, or one would wait for another."""
    return loop.stops.watching() if loop.processes.count == 1 else nullcontext()


def _told(settings: Settings) -> dict[str, Any]:
    """Settings that a checkpoint compares: all but functions."""
    told = {one.name: getattr(settings, one.name) for one in fields(settings)}
    return {name: value for name, value in told.items() if not callable(value)}


def _going_on(loop: Loop, changed: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """Say where a run goes on, and with what change."""
    told = []
    if loop.part is not None:
        epoch = loop.taken // loop.steps + (loop.part.step < loop.steps)
        told.append(f"goes on in epoch {epoch}, after {loop.part.step} of {loop.steps} steps")
    if changed:
        text = in_words(changed)
        if loop.part is None:
            loop.note = text
        else:
            loop.part.note = text
        if changed.keys() & {"epochs", "lr"} and loop.settings.schedule != "constant":
            name = loop.settings.schedule
            text += (
                f": {name if isinstance(name, str) else 'the schedule'} is made for "
                f"{loop.settings.epochs} epochs, and goes on at a learning rate of "
                f"{loop.optimizer.param_groups[0]['lr']:.3g}"
            )
        told.append(text)
    return told


def _on_target(history: History, settings: Settings) -> str:
    """Where the target error was reached, in words; "" where it was not, or there is no target."""
    if settings.target_error is None or not len(history):
        return ""
    last = history[-1]
    return (
        f"{last.error:.2f} % in epoch {last.epoch}" if last.error <= settings.target_error else ""
    )


def _weights(model: nn.Module) -> Mapping[str, Any]:
    """A copy of the state to fall back on, with its metadata and whatever modules add to it."""
    return copy.deepcopy(model.state_dict())
