"""The driver: `fit` trains a model by any kind of alternation, or by none, in one and the same loop."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..alternation import Alternation, Live
from ..data import as_data
from ..errors import RunFolderError, SettingsError
from ..outcome import Status
from ..processes import Processes
from ..runs import CHECKPOINT, Checkpoint, History, alone, make_folder
from .evaluate import Loss
from .listener import Listener
from .loop import Diverged, Loop
from .objective import Objective
from .result import FitResult, divergence
from .settings import Settings


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
    otherwise.

    Launched as several processes (`torchrun`, `accelerate launch`), each calls `fit` with the same
    arguments and gets the same result: the run is the one that a single process would make. Then the
    main process tells the `listener` and writes to the `folder`.

    With a `folder`, a checkpoint is written there after each epoch, and `resume=True` goes on from it,
    exactly (on a CPU); without it a folder that has a checkpoint is refused, as is one in which another
    process trains now. `identity` is whatever must be equal for that to make sense.

    Ctrl-C ends the run after the step under way with status INTERRUPTED. It ends with DIVERGED and the
    weights of the last good epoch where a loss is undefined, or an epoch's mean loss is more than five
    times that before training (or log(classes), which is chance, if that is more), or, under held
    masks, the live loss is, and more than five times that with which the round began. PyTorch's
    random generators are left as they were.

    Raises before any training `SettingsError`, `DataError`, `UnholdableError` for a model that cannot be
    held, and `TooLargeError` where masks fit nowhere. A disk that is full or a damaged file ends a run with
    `RunFolderError`, `StoreError` or `SupportFileError`; the last checkpoint stays.
    """
    settings = (settings or Settings()).but(**changes)
    if resume and folder is None:
        raise SettingsError("resume=True needs the folder that holds the checkpoint")
    place = None if folder is None else Path(folder)
    processes = settings.processes()
    if listener is None or not processes.main:
        listener = Listener()
    with _generators_kept():
        with processes.together():
            if place is not None and not resume and (place / CHECKPOINT).exists():
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
    first = loop.first_loss()
    checkpoint = None
    if folder is not None:
        with processes.together():
            checkpoint = Checkpoint(folder, processes)
    history = History()
    notes = list(loop.alternator.notes)
    if resume and checkpoint is not None:
        with processes.together():
            history = checkpoint.load(loop, identity)
        notes = [*loop.alternator.notes, *checkpoint.notes]
    for text in notes:
        listener.note(text)
    status, detail = Status.FINISHED, ""
    trained = [model] if loop.average is None else [model, loop.average.module]
    good = [_weights(one) for one in trained]
    try:
        with processes.wrapped(model) as loop.net, processes.watching():
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
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
        detail = f"in epoch {len(history) + 1} of {settings.epochs}"
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


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Put PyTorch's generators back at the end: a run seeds them, and the caller draws from them too."""
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(cuda)):
        yield
