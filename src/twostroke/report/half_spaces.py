"""The table and the picture of networks that were rebuilt from their masks, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from os import PathLike
from statistics import fmean

from .figure import COLOURS, new_figure, plain
from .sheet import Sheet


@dataclass(frozen=True)
class RebuiltPoint:
    """One network, rebuilt from its masks on so many images. Lists have one entry a hidden layer.

    data: what the images are; inputs: whose outputs a layer was solved on, "recovered" or "teacher";
        "descent" where no layer was solved, but a fresh network guided.
    per_weight: one-bit measurements a weight, images × places / fan-in.
    angles: between recovered and true weights, in degrees, mean over the units that are determined.
    cosines: the same as mean cosine. Both NaN where no unit is.
    undetermined: units that are off, or on, at every place.
    error, teacher_error: test error, as shares.
    """

    data: str
    width: int
    teacher: int
    images: int
    inputs: str
    status: str
    per_weight: list[float]
    angles: list[float]
    cosines: list[float]
    undetermined: list[int]
    error: float
    teacher_error: float


def half_space_sheet(points: Sequence[RebuiltPoint]) -> Sheet:
    """A line a data set, width and number of images: means over teachers."""
    rows = []
    for data, width, images in dict.fromkeys((p.data, p.width, p.images) for p in points):
        here = [p for p in points if (p.data, p.width, p.images) == (data, width, images)]
        chained, apart, guided = (
            [p for p in here if p.inputs == i] for i in ("recovered", "teacher", "descent")
        )
        rows.append((
            data, str(width), str(images),
            _layers(chained, lambda p: p.per_weight, "{:.3g}"),
            _layers(chained, lambda p: p.cosines, "{:.4f}"),
            _layers(apart, lambda p: p.cosines, "{:.4f}"),
            f"{100 * fmean(p.error for p in chained):.1f}",
            f"{100 * fmean(p.error for p in guided):.1f}" if guided else "–",
            f"{100 * fmean(p.teacher_error for p in chained):.1f}",
        ))  # fmt: skip
    heads = (
        "images of", "width", "images", "bits a weight,\nby layer", "cosine to the\ntrue weights",
        "the same, on the\nteacher's inputs", "test error by\nlayers (%)", "by descent\n(%)", "teacher\n(%)",
    )  # fmt: skip
    return Sheet(
        "Networks rebuilt from their masks, layer by layer and by guided descent",
        heads,
        tuple(rows),
    )


def draw_half_spaces(
    points: Sequence[RebuiltPoint], path: str | PathLike[str], *, note: str = ""
) -> None:
    """Draw the angle to the true weights over bits a weight, a panel a layer; and the test error over images.

    A row of panels for each kind of images, a colour a width. Full lines: on what the recovered layers
    give; dashed: on the teacher's own inputs. Crosses: by guided descent.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    kinds = list(dict.fromkeys(p.data for p in points))
    widths = list(dict.fromkeys(p.width for p in points))
    layers = len(points[0].angles)
    figure = new_figure((3.1 * (layers + 1), 0.8 + 2.8 * len(kinds)))
    panels = figure.subplots(len(kinds), layers + 1, squeeze=False)
    for row, kind in zip(panels, kinds, strict=True):
        for width, colour in zip(widths, COLOURS, strict=False):
            mine = [p for p in points if (p.data, p.width) == (kind, width)]
            for inputs, style in (("recovered", "o-"), ("teacher", "--")):
                some = [p for p in mine if p.inputs == inputs]
                for layer in range(layers):
                    line = _means((p.per_weight[layer], p.angles[layer]) for p in some)
                    label = f"width {width}" if inputs == "recovered" else None
                    row[layer].plot(*line, style, color=colour, ms=3.5, lw=1.2, label=label)
            chained = [p for p in mine if p.inputs == "recovered"]
            line = _means((p.images, 100 * p.error) for p in chained)
            row[-1].plot(*line, "o-", color=colour, ms=3.5, lw=1.2)
            guided = [p for p in mine if p.inputs == "descent"]
            line = _means((p.images, 100 * p.error) for p in guided)
            row[-1].plot(*line, "x--", color=colour, ms=4, lw=1)
            floor = 100 * fmean(p.teacher_error for p in chained)
            row[-1].axhline(floor, color=colour, lw=0.9, ls=":")
        for layer, axes in enumerate(row[:-1]):
            drawn = any(len(line.get_xdata()) for line in axes.lines)
            scale = "log" if drawn else "linear"  # a logarithmic axis needs something on it
            axes.set(xscale=scale, yscale=scale, xlabel="one-bit measurements a weight")
            if drawn:
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set_title(f"{kind}: layer {layer + 1}", fontsize=9.5)
        row[0].set_ylabel("angle to the true weights (°)")
        row[-1].set(xscale="log", ylim=(0, 100), xlabel="images", ylabel="test error (%)")
        row[-1].set_title(f"{kind}: rebuilt", fontsize=9.5)
        for axes in row:
            plain(axes)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    figure.suptitle("Weights from masks: half-spaces, layer by layer", fontsize=11)
    if note:
        figure.supxlabel(note, fontsize=7.5, color="#555555")
    figure.savefig(path, dpi=130)


def _layers(
    points: Sequence[RebuiltPoint], take: Callable[[RebuiltPoint], list[float]], form: str
) -> str:
    known = ([v for v in c if isfinite(v)] for c in zip(*map(take, points), strict=True))
    return ", ".join(form.format(fmean(c)) if c else "–" for c in known)


def _means(points: Iterable[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """The mean of y for each x, rising; without layers of which no unit was determined."""
    found: dict[float, list[float]] = {}
    for x, y in points:
        if isfinite(y):
            found.setdefault(x, []).append(y)
    return sorted(found), [fmean(found[x]) for x in sorted(found)]
