"""Progress bars: what `fit` and its callers tell a listener, on the screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..runs import EpochRecord
from ..training import Listener
from ..training import Progress as Where

_PATIENCE = 2.0  # seconds of silence


@contextmanager
def reading(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each kind of work before training, such as reading pictures; it is gone when that is done.

    What is given is told what is being done, how many are done, and of how many. Where there is no terminal,
    a line says it of work that takes longer than two seconds.
    """
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bars:
        begun: dict[str, tuple[TaskID, float]] = {}
        said: set[str] = set()

        def told(what: str, done: int, count: int) -> None:
            if what not in begun:
                begun[what] = bars.add_task(what, total=count), time.monotonic()
            task, start = begun[what]
            bars.update(task, completed=done)
            late = time.monotonic() - start > _PATIENCE
            if late and what not in said and not console.is_terminal:
                said.add(what)
                console.print(f"{what}: {done:,} of {count:,}", highlight=False)

        yield told


class RunBars(Listener):
    """One bar a part: epochs, steps, phase, error, time left. Each epoch is a plain line without a terminal.

    `told` are the notes that were printed.
    """

    def __init__(self, console: Console, name: str = "") -> None:
        self.console, self.name = console, name
        self.told: list[str] = []
        self._text = ""
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def note(self, text: str) -> None:
        """A line above the bar."""
        self.told.append(text)
        self.console.print(text, highlight=False, soft_wrap=True)

    def part(self, name: str) -> None:
        """A new bar; the one before stays as it is."""
        self.close()
        self.name, self._text = name, ""

    def step(self, where: Where) -> None:
        """The bar goes on."""
        if self._bar is None:
            self._bar = Progress(
                TextColumn("[bold]{task.description:<14}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.console,
                disable=not self.console.is_terminal,
            )
            self._bar.add_task(self.name, total=None, text="")
            self._bar.start()
        self._bar.update(
            self._bar.task_ids[0],
            total=where.epochs * where.steps,
            completed=where.epoch * where.steps + where.step,
            text=f"epoch {where.epoch + 1}/{where.epochs} {where.phase.value:<9} {self._text}",
        )

    def epoch(self, record: EpochRecord) -> None:
        """The bar says the error; where there is no terminal, a line says what the epoch brought."""
        self._text = f"error {record.error:.2f} %"
        if not self.console.is_terminal:
            drift = "" if record.drift is None else f"  drift {100 * record.drift:.1f} %"
            held = "" if record.loss_held is None else f"  held {record.loss_held:.4f}"
            self.console.print(
                f"{self.name:<14} epoch {record.epoch:>3}  {record.phase:<9}  error "
                f"{record.error:5.2f} %  loss {record.loss_live:.4f}{held}{drift}  "
                f"{record.seconds:.1f} s",
                highlight=False,
                soft_wrap=True,
            )

    def close(self) -> None:
        """Let go of the screen."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
