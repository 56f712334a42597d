"""Tables of runs: side by side, to a target, and where their settings differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..runs import History
from ..runs.changes import dotted
from .sheet import Sheet

PLACES = ("command", "out", "config", "resume", "data_root", "instance.store_path")  # of no matter


def comparison(
    runs: Mapping[str, History], *, mask_errors: Mapping[str, float] | None = None, title: str = ""
) -> Sheet:
    """A line a run: epochs, last and best live test error, losses after the last epoch, seconds of training.

    `mask_errors` adds the column of the error with masks at test (MaskT), in %. Where masks were held,
    there are columns of the loss under them and of the share of held steps.
    """
    alternated = any(record.round for history in runs.values() for record in history)
    heads = ["run", "epochs", "error\nlast %", "error\nbest %"]
    heads += ["MaskT\n%"] if mask_errors is not None else []
    heads += ["loss\ntest", "loss\ntrain"]
    heads += ["loss\nheld", "held\nsteps %"] if alternated else []
    heads.append("seconds")
    rows = []
    for name, history in runs.items():
        if not len(history):
            rows.append((name, "0", *["–"] * (len(heads) - 2)))
            continue
        last = history[-1]
        cells = [
            name,
            f"{len(history)}",
            f"{last.error:.2f}",
            f"{min(history.column('error')):.2f}",
        ]
        if mask_errors is not None:
            cells.append(_number(mask_errors.get(name), 2))
        cells += [_number(last.loss_test, 4), _number(last.loss_live, 4)]
        if alternated:
            held = [r.loss_held for r in history if r.loss_held is not None]
            cells += [_number(held[-1] if held else None, 4), f"{100 * history.held_share:.0f}"]
        rows.append((*cells, f"{history.seconds:.1f}"))
    return Sheet(title, tuple(heads), tuple(rows))


def to_targets(runs: Mapping[str, History], targets: tuple[float, ...]) -> Sheet:
    """A line a target and run: epochs, steps and seconds until the error was first that, in %, or less."""
    rows = []
    for target in targets:
        for name, history in runs.items():
            hit = to_target(history, target)
            cells = (f"{hit[0]}", f"{hit[1]:,}", f"{hit[2]:.1f}") if hit else ("–",) * 3
            rows.append((name, f"{target:g}", *cells))
    return Sheet("", ("run", "to error %", "epochs", "steps", "seconds"), tuple(rows))


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


def differing(configs: Mapping[str, Mapping[str, Any]]) -> Sheet:
    """A line a setting that is not the same in all runs, a column a run; – where a run does not have it."""
    flat = {name: settings(config) for name, config in configs.items()}
    names = dict.fromkeys(name for one in flat.values() for name in one)
    rows = []
    for name in names:
        values = [one.get(name, "–") for one in flat.values()]
        if len(set(values)) > 1 and name not in PLACES:
            rows.append((name, *values))
    return Sheet("", ("setting that\ndiffers", *configs), tuple(rows))


def settings(config: Mapping[str, Any]) -> dict[str, str]:
    """A configuration as text, tables spread out: {"instance.gap": "2"}."""
    return {name: str(value) for name, value in dotted(config).items()}


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
