"""Learning curves as in the paper's Fig. 1 and 3: loss and error by epoch, support strokes marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

from ..runs import History
from .figure import new_figure, plain

COLOURS = (
    "#3b6ea8",
    "#d1602f",
    "#3f8f5f",
    "#8a5aa8",
    "#b58a1f",
    "#5f6b73",
    "#c74f7a",
    "#37a3a8",
    "#8c5a3c",
    "#a3a63a",
    "#1f2d3d",
    "#9ab6d8",
)


@dataclass(frozen=True)
class _Panel:
    """What one panel shows by epoch: a column of the history, and that under the held masks."""

    column: str
    label: str
    held: str | None = None
    log: bool = True
    marks: bool = True


_LOSS = _Panel("loss_live", "loss on training examples", "loss_held")


def draw_curves(
    runs: Mapping[str, History], path: str | PathLike[str], *, title: str = "", note: str = ""
) -> None:
    """Draw the runs' loss (left) and live test error (right) against epochs, and save a PNG.

    Full lines are the network's own loss on the probe, dashed ones its loss under the held masks; a
    dot with a number marks the epoch at whose beginning a round's support was found. `note` stands
    below, for what a reader must know of the data.
    """
    error = _Panel("error", "error on test examples, live network (%)")
    _draw(runs, path, (replace(_LOSS, marks=False), error), title, note)


def draw_training(
    runs: Mapping[str, History], path: str | PathLike[str], *, title: str = "", note: str = ""
) -> None:
    """Draw what the paper's Fig. 1 and 3 show, held and live apart: three panels, saved as a PNG.

    Loss and error of the same training examples, by the network itself (full) and under the held masks
    (dashed), and the live error on the test set; numbers mark the support strokes in all three.
    """
    training = _Panel("error_live", "error on training examples (%)", "error_held", log=False)
    _draw(runs, path, (_LOSS, training, _Panel("error", "error on test examples (%)")), title, note)


def _draw(
    runs: Mapping[str, History],
    path: str | PathLike[str],
    panels: Sequence[_Panel],
    title: str,
    note: str,
) -> None:
    from matplotlib.ticker import MaxNLocator

    figure = new_figure((1 + 4.2 * len(panels), 4.2))
    every = figure.subplots(1, len(panels))
    for axes, panel in zip(every, panels, strict=True):
        for (name, history), colour in zip(runs.items(), COLOURS * len(runs), strict=False):
            values = history.column(panel.column)
            axes.plot(history.column("epoch"), values, color=colour, label=name)
            under = [(r.epoch, getattr(r, panel.held)) for r in history] if panel.held else []
            under = [(epoch, value) for epoch, value in under if value is not None]
            if under:
                label = f"{name}, held"
                axes.plot(*zip(*under, strict=True), "--", color=colour, lw=1, label=label)
            if panel.marks:
                _mark_rounds(axes, history, colour, panel.column)
        above = any(
            value > 0 for history in runs.values() for value in history.column(panel.column)
        )
        if panel.log and above:  # what is 0 all along has no logarithm
            axes.set_yscale("log")
            _plain_numbers(axes)
        axes.set(xlabel="epoch", ylabel=panel.label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        plain(axes)
    if any(len(history) for history in runs.values()):
        every[0].legend(frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    if note:
        figure.supxlabel(note, fontsize=7.5, color="#555555")
    figure.savefig(path, dpi=130)


def _mark_rounds(axes: Any, history: History, colour: str, column: str) -> None:
    every = 1 + max(record.round for record in history) // 12 if history else 1  # numbers need room
    before = 0
    for record in history:
        height = getattr(record, column)
        if record.round > before and height is not None:
            axes.plot(record.epoch, height, "o", color=colour, ms=4)
            axes.annotate(
                str(record.round) if (record.round - 1) % every == 0 else "",
                (record.epoch, height),
                textcoords="offset points",
                xytext=(0, 5),
                ha="center",
                fontsize=7,
                color=colour,
            )
        before = record.round


def _plain_numbers(axes: Any) -> None:
    """Label powers of ten and, where they are few, what lies between them."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    low, high = axes.get_ylim()
    between = (2.0, 3.0, 5.0) if high < 100 * low else ()
    for which, subs in (("major", (1.0,)), ("minor", between)):
        getattr(axes.yaxis, f"set_{which}_locator")(LogLocator(subs=subs, numticks=12))
        getattr(axes.yaxis, f"set_{which}_formatter")(FuncFormatter(lambda v, _: f"{v:g}"))
