"""Tables of runs, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from ..runs import History


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def comparison(
    runs: Mapping[str, History],
    *,
    mask_errors: Mapping[str, float] | None = None,
    title: str | None = None,
) -> Table:
    """A line a run: epochs, final live error, losses, seconds.

    `mask_errors` adds the column of the error with masks at test (MaskT), in %.
    """
    table = _table_of(runs, title)
    heads = ["epochs", "error %"]
    heads += ["MaskT %"] if mask_errors is not None else []
    heads += ["loss held", "live", "seconds"]
    _add_columns(table, heads)
    for name, history in runs.items():
        if not len(history):
            table.add_row(name, "0", *["–"] * (len(heads) - 1))
            continue
        last = history[-1]
        held = [r.loss_held for r in history if r.loss_held is not None]
        cells = [str(len(history)), _number(last.error, 2)]
        if mask_errors is not None:
            cells.append(_number(mask_errors.get(name), 2))
        cells += [_number(held[-1] if held else None, 4), _number(last.loss_live, 4)]
        cells.append(_number(history.seconds, 1))
        table.add_row(name, *cells)
    return table


def to_targets(runs: Mapping[str, History], targets: tuple[float, ...]) -> Table:
    """A line a target and run: epochs, steps and seconds until the error was first that, in %, or less."""
    table = _table_of(runs, None)
    _add_columns(table, ["to error %", "epochs", "steps", "seconds"])
    for target in targets:
        for name, history in runs.items():
            hit = to_target(history, target)
            cells = [f"{hit[0]}", f"{hit[1]:,}", f"{hit[2]:.1f}"] if hit else ["–"] * 3
            table.add_row(name, f"{target:g}", *cells)
        table.add_section()
    return table


def _table_of(runs: Mapping[str, History], title: str | None) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("run", no_wrap=max(map(len, runs), default=0) <= 24, overflow="fold")
    return table


def _add_columns(table: Table, heads: list[str]) -> None:
    for head in heads:
        table.add_column(head, justify="right", overflow="fold")


def to_target(history: History, target: float) -> tuple[int, int, float] | None:
    """Epochs, optimiser steps and training seconds until the live error was first at most `target` %.

    None where it never was.
    """
    seconds = 0.0
    for record in history:
        seconds += record.seconds
        if record.error <= target:
            return record.epoch, record.steps, seconds
    return None
