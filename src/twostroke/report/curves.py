"""Learning curves as in the paper's Fig. 1 and 3: losses, errors, shares by epoch; support strokes marked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

from ..runs import EpochRecord, History
from .figure import COLOURS, new_figure, plain, tip

STROKES = "dots with a number: a support stroke, at the beginning of that epoch, and its round"


@dataclass(frozen=True)
class Line:
    """A column of a run's history by epoch, times `scale`; epochs without it are left out."""

    column: str
    label: str
    colour: str
    dashed: bool = False
    scale: float = 1.0

    def points(self, history: History) -> list[tuple[EpochRecord, float]]:
        """Epochs that have the quantity, and it."""
        found = ((record, getattr(record, self.column)) for record in history)
        return [(record, value * self.scale) for record, value in found if value is not None]


@dataclass(frozen=True)
class Panel:
    """What stands in one frame: lines, each with the run that it is of."""

    label: str
    lines: Sequence[tuple[History, Line]]
    log: bool = True
    marks: bool = True


def draw_curves(
    runs: Mapping[str, History], path: str | PathLike[str], *, title: str = "", note: str = ""
) -> None:
    """Draw the runs' loss (left) and live test error (right) against epochs, and save a PNG.

    Full lines are the network's own loss on the probe, dashed ones its loss under the held masks; a
    dot with a number marks the epoch at whose beginning a round's support was found. `note` stands
    below, for what a reader must know of the data.
    """
    curves(compared(runs), title=title, note=note).savefig(path, dpi=130)


def draw_training(
    runs: Mapping[str, History], path: str | PathLike[str], *, title: str = "", note: str = ""
) -> None:
    """Draw what the paper's Fig. 1 and 3 show, held and live apart: three panels, saved as a PNG.

    Loss and error of the same training examples, by the network itself (full) and under the held masks
    (dashed), and the live error on the test set; numbers mark the support strokes in all three.
    """
    loss, error = compared(runs)
    training = _panel(runs, "error on training examples (%)", "error_live", "error_held", log=False)
    curves([replace(loss, marks=True), training, error], title=title, note=note).savefig(
        path, dpi=130
    )


def compared(runs: Mapping[str, History]) -> list[Panel]:
    """Runs side by side: their loss on training examples, and their live error on test examples."""
    return [
        _panel(runs, "loss on training examples", "loss_live", "loss_held", marks=False),
        _panel(runs, "error on test examples, live (%)", "error"),
    ]


def of_run(history: History) -> list[Panel]:
    """All of one run: losses, errors, and with alternation what it did."""
    blue, orange, green, purple, *_ = COLOURS
    test = "test, live" if any(record.round for record in history) else "test"
    losses = [
        Line("loss_train", "training, mean of the epoch's steps", purple),
        Line("loss_live", "training, at the epoch's end", blue),
        Line("loss_held", "the same under held masks", blue, dashed=True),
        Line("loss_test", test, orange),
        Line("loss_average", "test, average of the weights", green),
    ]
    errors = [
        Line("error_live", "training", blue),
        Line("error_held", "training, under held masks", blue, dashed=True),
        Line("error", test, orange),
        Line("error_average", "test, average of the weights", green),
    ]
    shares = [
        Line("drift", "drift", orange, scale=100),
        Line("density", "density", blue, scale=100),
    ]
    panels = [("loss", losses, True), ("error (%)", errors, True)]
    if any(record.round for record in history):
        panels.append(("share of the units (%)", shares, False))
    return [
        Panel(label, [(history, line) for line in lines if line.points(history)], log)
        for label, lines, log in panels
    ]


def curves(
    panels: Sequence[Panel], *, title: str = "", note: str = "", strokes: bool = True
) -> Any:
    """A matplotlib `Figure` of the panels side by side.

    Support strokes are explained below where they are marked, unless the page does it (`strokes=False`).
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure((1 + 4.2 * len(panels), 4.4))
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        shown = [(history, line, line.points(history)) for history, line in panel.lines]
        for history, line, points in shown:
            xs, ys = [record.epoch for record, _ in points], [value for _, value in points]
            style = {"ls": "--", "lw": 1} if line.dashed else {}
            axes.plot(
                xs, ys, color=line.colour, label=line.label, marker="." * (len(xs) == 1), **style
            )
            if panel.marks and not line.dashed:
                _mark_rounds(axes, history, line, points)
        scale = (
            _logarithmic(axes, [v for *_, points in shown for _, v in points]) if panel.log else ""
        )
        axes.set(xlabel="epoch", ylabel=panel.label + scale)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        plain(axes)
        if any(points for *_, points in shown):
            # above the frame, where it hides nothing
            legend = axes.legend(
                loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8
            )
            for text in legend.get_texts():
                text.set_parse_math(False)
        _tips(axes, shown)
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    marked = any(
        record.round for panel in panels for history, _ in panel.lines for record in history
    )
    below = [text for text in (note, STROKES * (marked and strokes)) if text]
    if below:
        figure.supxlabel("\n".join(below), fontsize=7.5, color="#555555", parse_math=False)
    return figure


def _panel(
    runs: Mapping[str, History],
    label: str,
    column: str,
    held: str | None = None,
    *,
    log: bool = True,
    marks: bool = True,
) -> Panel:
    lines = []
    for (name, history), colour in zip(runs.items(), COLOURS * len(runs), strict=False):
        lines.append((history, Line(column, name, colour)))
        under = Line(held or column, f"{name}, held", colour, dashed=True)
        if held and under.points(history):
            lines.append((history, under))
    return Panel(label, lines, log, marks)


def _mark_rounds(
    axes: Any, history: History, line: Line, points: Sequence[tuple[EpochRecord, float]]
) -> None:
    every = 1 + max(record.round for record in history) // 12 if history else 1  # numbers need room
    begun = [
        (record, height)
        for (record, height), (before, _) in zip(points, [(None, 0), *points], strict=False)
        if record.round > (before.round if before else 0)
    ]
    axes.plot(
        [record.epoch for record, _ in begun],
        [height for _, height in begun],
        "o",
        color=line.colour,
        ms=4,
    )
    for record, height in begun:
        if (record.round - 1) % every == 0:
            axes.annotate(
                str(record.round),
                (record.epoch, height),
                textcoords="offset points",
                xytext=(0, 5),
                ha="center",
                fontsize=7,
                color=line.colour,
            )


def _tips(
    axes: Any, shown: Sequence[tuple[History, Line, list[tuple[EpochRecord, float]]]]
) -> None:
    """Over each epoch, what its lines say, for a page; of long runs over some of them."""
    told: dict[int, list[str]] = {}
    for _, line, points in shown:
        for record, value in points:
            told.setdefault(record.epoch, []).append(f"{line.label}: {value:.4g}")
    for epoch in sorted(told)[:: 1 + len(told) // 100]:
        tip(axes, epoch - 0.5, epoch + 0.5, "\n".join([f"epoch {epoch}", *told[epoch]]))


def _logarithmic(axes: Any, values: Sequence[float]) -> str:
    """Give the y axis a log scale, with room for 0 below the least value where there is one; says so.

    What is 0 all along has no logarithm.
    """
    from matplotlib.ticker import FuncFormatter

    least = min((value for value in values if value > 0), default=None)
    if least is None:
        return ""
    if min(values) > 0:
        axes.set_yscale("log")
        _plain_numbers(axes)
        return ", log scale"
    axes.set_yscale("symlog", linthresh=least, linscale=0.4)
    axes.set_ylim(bottom=0)
    steps = (1, 2, 5) if max(values) < 100 * least else (1,)
    tens = range(math.floor(math.log10(least)), math.ceil(math.log10(max(values))) + 1)
    ticks = [step * 10.0**ten for ten in tens for step in steps]
    axes.set_yticks([0.0, *(t for t in ticks if least <= t <= max(values))])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    return f", log scale above {least:.2g}"


def _plain_numbers(axes: Any) -> None:
    """Label powers of ten and, where they are few, what lies between them."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    low, high = axes.get_ylim()
    between = (2.0, 3.0, 5.0) if high < 100 * low else ()
    for which, subs in (("major", (1.0,)), ("minor", between)):
        getattr(axes.yaxis, f"set_{which}_locator")(LogLocator(subs=subs, numticks=12))
        getattr(axes.yaxis, f"set_{which}_formatter")(FuncFormatter(lambda v, _: f"{v:g}"))
