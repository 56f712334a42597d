"""How every command that trains begins and ends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol, TypeVar

import torch
from rich.console import Console
from torch import nn

from ..errors import RunFolderError, TwostrokeError
from ..outcome import Status
from ..report import draw_curves
from ..runs import About, History, RunFolder
from .progress import RunBars


class Trained(Protocol):
    """What training commands have in common of their results; see `outcome.Result`."""

    @property
    def status(self) -> Status:
        """How it ended."""
        ...

    @property
    def notes(self) -> list[str]:
        """What is worth knowing."""
        ...

    @property
    def message(self) -> str:
        """Status, detail and advice."""
        ...

    @property
    def model(self) -> nn.Module:
        """The network."""
        ...

    @property
    def history(self) -> History:
        """Its epochs."""
        ...


Kind = TypeVar("Kind", bound=Trained)


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


def seed_weights(seed: int) -> None:
    """Seed the initial weights."""
    torch.manual_seed(seed)


def carry_out(
    work: Callable[[RunBars], Kind],
    run: RunFolder,
    console: Console,
    *,
    command: str,
    name: str,
    title: str,
    about: About | None = None,
    what: str = "live test error",
    finish: Callable[[nn.Module], nn.Module] = lambda model: model,
    main: bool = True,
    discard: Callable[[], None] | None = None,
    remedy: str | None = None,
) -> tuple[Kind | None, int]:
    """Train, keep what came out in the run's folder, and say how it ended; gives the exit code too.

    `what` says of what the last error is. `finish` makes a plain model of what was trained. `discard` undoes
    the folder of a run that is refused before it begins. `remedy` is an option that may mend divergence. Of
    several processes only the `main` one writes. The result is None where Ctrl-C came before there was any.
    """
    result: Kind | None = None
    with RunBars(console, name) as bars, stoppable():
        try:
            result = work(bars)
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
        run.save_model(finish(result.model), getattr(result, "average", None), about)
        try:
            draw_curves({name: result.history}, run.curves_file, title=title)
        except OSError as error:
            raise RunFolderError(f"{run.curves_file} could not be written: {error}") from error
    for note in result.notes:
        if note not in bars.told:
            _say(console, note)
    _say(console, result.message)
    epochs = result.history
    last = f"{what} {epochs[-1].error:.2f} %" if len(epochs) else "no epoch was completed"
    _say(console, f"{last}; everything is in {run.path}")
    if stopped:
        _say(console, f"go on with: twostroke {command} --resume {run.path}")
        return result, 130
    if result.status is Status.DIVERGED and remedy is not None:
        _say(console, f"try: twostroke {command} --resume {run.path} {remedy}")
    return result, int(result.status is Status.DIVERGED)


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
