"""Learning curves as in the paper's Fig. 1 and 3: loss and error by epoch, support strokes marked."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

from ..training import History

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


def draw_curves(
    runs: Mapping[str, History], path: str | PathLike[str], *, title: str = "", note: str = ""
) -> None:
    """Draw the runs' loss (left) and live test error (right) against epochs, and save a PNG.

    Full lines are the network's own loss on the probe, dashed ones its loss under the held masks; a
    dot with a number marks the epoch at whose beginning a round's support was found. `note` stands
    below, for what a reader must know of the data.
    """
    # the object interface: no global state of pyplot, no window
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for (name, history), colour in zip(runs.items(), COLOURS * len(runs), strict=False):
        epochs = history.column("epoch")
        left.plot(epochs, history.column("loss_live"), color=colour, label=name)
        held = [(r.epoch, r.loss_held) for r in history if r.loss_held is not None]
        if held:
            left.plot(*zip(*held, strict=True), "--", color=colour, lw=1, label=f"{name}, held")
        right.plot(epochs, history.column("error"), color=colour, label=name)
        _mark_rounds(right, history, colour)
    left.set(ylabel="loss on training examples", yscale="log")
    right.set(ylabel="error on test examples, live network (%)", yscale="log")
    _plain_numbers(right)
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25, which="both", lw=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        if any(len(history) for history in runs.values()):
            axes.legend(frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    if note:
        figure.supxlabel(note, fontsize=7.5, color="#555555")
    figure.savefig(path, dpi=130)


def draw_training(
    runs: Mapping[str, History], path: str | PathLike[str], *, title: str = "", note: str = ""
) -> None:
    """Draw what the paper's Fig. 1 and 3 show, held and live apart: three panels, saved as a PNG.

    Loss and error of the same training examples, by the network itself (full) and under the held masks
    (dashed), and the live error on the test set; numbers mark the support strokes in all three.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3)
    columns = (("loss_live", "loss_held"), ("error_live", "error_held"), ("error", None))
    labels = (
        "loss on training examples",
        "error on training examples (%)",
        "error on test examples (%)",
    )
    for axes, (live, held), label in zip(panels, columns, labels, strict=True):
        for (name, history), colour in zip(runs.items(), COLOURS * len(runs), strict=False):
            epochs = history.column("epoch")
            axes.plot(epochs, history.column(live), color=colour, label=name)
            under = [(r.epoch, getattr(r, held)) for r in history] if held else []
            under = [(epoch, value) for epoch, value in under if value is not None]
            if under:
                axes.plot(
                    *zip(*under, strict=True), "--", color=colour, lw=1, label=f"{name}, held"
                )
            _mark_rounds(axes, history, colour, live)
        above = any(value > 0 for history in runs.values() for value in history.column(live))
        if live != "error_live" and above:  # a loss that is 0 all along has no logarithm
            axes.set_yscale("log")
            _plain_numbers(axes)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25, which="both", lw=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    if note:
        figure.supxlabel(note, fontsize=7.5, color="#555555")
    figure.savefig(path, dpi=130)


def _mark_rounds(axes: Any, history: History, colour: str, column: str = "error") -> None:
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
