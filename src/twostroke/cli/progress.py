"""Progress on the screen: what `fit` and its callers tell a listener, as a bar and a line an epoch."""

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

from .._amounts import duration
from ..runs import EpochRecord
from ..training import Listener
from ..training import Progress as Where

ALARM = 10  # times the training loss, or 10 in itself, above which a loss needs a word
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
    """A line an epoch, and on a terminal a bar below them: steps, what is done, time left.

    `told` are the notes that were printed. `tested` says what the error is of.
    """

    def __init__(self, console: Console, name: str = "", tested: str = "test") -> None:
        self.console, self.name, self.tested = console, name, tested
        self.told: list[str] = []
        self._alarmed = self._named = False
        self._where: Where | None = None
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
        self._say(text)

    def part(self, name: str) -> None:
        """A new heading and a new bar."""
        self.close()
        self.name, self._named = name, False

    def step(self, where: Where) -> None:
        """The bar goes on."""
        self._where = where
        done, whole = where.epoch * where.steps + where.step, where.epochs * where.steps
        if self._bar is not None and done < self._bar.tasks[0].completed:
            self.close()  # other work, such as that of a teacher, was before it
        if self._bar is None:
            self._heading()
            self._bar = Progress(
                BarColumn(bar_width=16),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
                TimeElapsedColumn(),
                console=self.console,
                disable=not self.console.is_terminal,
                transient=True,
            )
            self._bar.add_task("", total=whole, text="")
            self._bar.start()
            self._begun, self._first = time.perf_counter(), done
        text = f"steps  epoch {where.epoch + 1}/{where.epochs}, "
        text += where.phase.value if where.step < where.steps else "evaluation"
        if (
            self._first < done < whole
        ):  # at the pace of all that was done since, evaluation included
            pace = (time.perf_counter() - self._begun) / (done - self._first)
            text += f", {duration(pace * (whole - done))} left"
        self._bar.update(self._bar.task_ids[0], total=whole, completed=done, text=text)

    def epoch(self, record: EpochRecord) -> None:
        """A line of what the epoch brought, and once a word on a loss that alarms."""
        self._heading()
        epochs, steps = (self._where.epochs, self._where.steps) if self._where else (0, 0)
        number = f"{record.epoch:>{len(str(epochs))}}/{epochs}" if epochs else f"{record.epoch}"
        text = (
            f"epoch {number}  train: loss {_number(record.loss_train)}, {duration(record.seconds)}  "
            f"{self.tested}{', live' * (record.round > 0)}: error {record.error:.2f} %, "
            f"loss {_number(record.loss_test)}, {duration(record.eval_seconds)}"
        )
        if record.error_average is not None:
            text += f"  average: error {record.error_average:.2f} %"
        if record.round > 0:
            text += f"  held: {record.held_steps}{f'/{steps}' * (steps > 0)} steps"
        if record.loss_held is not None:
            text += f", train loss {_number(record.loss_held)}, live {_number(record.loss_live)}"
        if record.drift is not None:
            text += f", drift {100 * record.drift:.1f} %"
        self._say(text)
        if not self._alarmed and record.loss_live > ALARM * max(1.0, record.loss_train):
            self._alarmed = True
            self._say(
                f"  The loss is {_number(record.loss_live)} in evaluation mode, on training images too, where "
                f"training itself has {_number(record.loss_train)}: batch norm evaluates with running "
                "averages, which lag behind weights that move fast. They catch up after some tens of steps "
                f"({record.steps:,} so far); until then the error says little. If the model has no batch "
                "norm, the learning rate is too large: lower --lr."
            )

    def close(self) -> None:
        """Let go of the screen."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _heading(self) -> None:
        if self.name and not self._named:
            self._say(self.name)
        self._named = True

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)


def _number(value: float) -> str:
    return f"{value:.4f}" if value < 100 else f"{value:,.0f}"
