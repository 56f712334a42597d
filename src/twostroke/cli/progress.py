"""A progress bar for a run: one line that says where it is and how it stands."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..training import EpochRecord
from ..training import Progress as Where


class RunBar:
    """Shows epochs, steps, phase, error and time left; one plain line an epoch where no terminal is."""

    def __init__(self, console: Console, name: str) -> None:
        self.console, self.name = console, name
        self._text = ""
        self._bar = Progress(
            TextColumn("[bold]{task.description:<14}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=False,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=None, text="")

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def step(self, where: Where) -> None:
        """After each step."""
        self._bar.update(
            self._task,
            total=where.epochs * where.steps,
            completed=where.epoch * where.steps + where.step,
            text=f"epoch {where.epoch + 1}/{where.epochs} {where.phase.value:<9} {self._text}",
        )

    def epoch(self, record: EpochRecord) -> None:
        """After each epoch."""
        self._text = f"error {record.error:.2f} %"
        if not self.console.is_terminal:
            drift = "" if record.drift is None else f"  drift {100 * record.drift:.1f} %"
            held = "" if record.loss_held is None else f"  held {record.loss_held:.4f}"
            rest = f"  {record.resting} sites rest" if record.resting else ""
            self.console.print(
                f"{self.name:<14} epoch {record.epoch:>3}  {record.phase:<9}  error "
                f"{record.error:5.2f} %  loss {record.loss_live:.4f}{held}{drift}{rest}  "
                f"{record.seconds:.1f} s",
                highlight=False,
                soft_wrap=True,
            )


class RunBars:
    """One bar after another, for work that consists of several runs."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: RunBar | None = None

    def of(self, name: str) -> RunBar:
        """The bar of the run of that name; the one before it is closed."""
        if self._bar is None or self._bar.name != name:
            self.close()
            self._bar = RunBar(self.console, name)
            self._bar.__enter__()
        return self._bar

    def close(self) -> None:
        """Take the bar that is shown away."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None
