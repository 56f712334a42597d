"""How every command that trains begins and ends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import TypeVar

from rich.console import Console
from torch import nn

from .._amounts import duration
from ..data import ExampleSource
from ..errors import RunFolderError, TwostrokeError
from ..models.outside import built_with
from ..outcome import Status
from ..report import Answers, Tracked, write_report
from ..report.table import settings
from ..runs import About, RunFolder
from ..sparsity import DenseSparseDenseResult
from ..training import FitResult, Listener
from .progress import RunBars

Kind = TypeVar("Kind", bound=FitResult | DenseSparseDenseResult)


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM stops like Ctrl-C, so that a scheduler's kill loses nothing."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt("SIGTERM")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def carry_out(
    work: Callable[[Listener], Kind],
    run: RunFolder,
    console: Console,
    *,
    command: str,
    test: ExampleSource | None = None,
    note: str = "",
    track: Sequence[str] = (),
    about: About | None = None,
    what: str = "live test error",
    alternates: bool = False,
    finish: Callable[[nn.Module], nn.Module] = lambda model: model,
    main: bool = True,
    discard: Callable[[], None] | None = None,
    remedy: str | None = None,
) -> tuple[Kind | None, int]:
    """Train, keep what came out in the run's folder, and say how it ended; gives the exit code too.

    `test` is what the model answers for the report, `note` says what data these are, `track` names trackers.
    `what` says of what the last error is, `alternates` that steps are to be held. `finish` makes a plain model
    of what was trained. `discard` undoes the folder of a run that is refused before it begins. `remedy` is an
    option that may mend divergence. Of several processes only the `main` one writes. The result is None where
    Ctrl-C came before there was any.
    """
    result: Kind | None = None
    told = settings(run.config()) if track else {}
    tested = "test" if test is not None else "against the teacher"
    with RunBars(console, tested=tested) as bars, stoppable():
        try:
            with Tracked(track, run.path, listener=bars, settings=told) as listener:
                result = work(listener)
        except TwostrokeError:
            if discard is not None:
                discard()
            raise
        except KeyboardInterrupt:
            pass
    if result is None:
        _say(console, "interrupted before training began")
        _say(console, f"go on with: twostroke {command} --resume {run.path}")
        return None, 130
    stopped = result.status is Status.INTERRUPTED
    if main and (
        len(result.history) or not stopped
    ):  # else the run begins again when it is resumed
        run.save_history(result.history)
        model = finish(result.model)
        if about is not None:
            about = replace(about, options=built_with(model))
        run.save_model(model, getattr(result, "average", None), about)
        run.answers_file.unlink(missing_ok=True)  # of earlier weights
        try:
            if test is not None and not stopped:
                lines = [note, *result.notes, result.message]
                with console.status(
                    "asking the model about the test set once more, for the report"
                ):
                    Answers.of(model, test, told=[text for text in lines if text]).save(
                        run.answers_file
                    )
            write_report(run)
        except OSError as error:
            raise RunFolderError(f"{run.report_file} could not be written: {error}") from error
    for text in result.notes:
        if text not in bars.told:
            _say(console, text)
    _say(console, result.message)
    epochs = result.history
    if len(epochs):
        held = f", {100 * epochs.held_share:.0f} % of the steps held" if alternates else ""
        evaluated = duration(sum(epochs.column("eval_seconds")))
        _say(console, f"{duration(epochs.seconds)} of training, {evaluated} of evaluation{held}")
    last = f"{what} {epochs[-1].error:.2f} %" if len(epochs) else "no epoch was completed"
    _say(console, f"{last}; everything is in {run.path}; look at {run.report_file.name} in it")
    if stopped:
        _say(console, f"go on with: twostroke {command} --resume {run.path}")
        return result, 130
    if result.status is Status.DIVERGED and remedy is not None:
        _say(console, f"try: twostroke {command} --resume {run.path} {remedy}")
    return result, int(result.status is Status.DIVERGED)


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
