"""Pictures of supports: layers, neighbours, classes, lines, planes, training, two runs."""

from __future__ import annotations

from os import PathLike
from typing import Any

import torch
from torch import Tensor

from ..report.confusion import confusion_figure
from ..report.figure import COLOURS, new_figure, plain, show_image
from ..support import Support
from .distances import Neighbours
from .lines import Line
from .planes import Plane
from .probe import Matched, Probe
from .units import counts, entropy

Path = str | PathLike[str]


def draw_layers(support: Support, path: Path, *, title: str = "") -> None:
    """How often units are on (left) and what their side tells (right), by site: all units, and their median."""
    figure = new_figure((10, 4))
    shares = {s.key: (n / max(1, len(support))).flatten() for s, n in counts(support).items()}
    told = {s.key: h.flatten() for s, h in entropy(support).items()}
    panels = (
        (shares, "share of examples for which a unit is on"),
        (told, "entropy of a unit's side (bits)"),
    )
    for axes, (values, label) in zip(figure.subplots(1, 2), panels, strict=True):
        axes.violinplot([v.numpy() for v in values.values()], showmedians=True, widths=0.8)
        axes.set_xticks(
            range(1, len(values) + 1), list(values), rotation=30, ha="right", fontsize=8
        )
        axes.set(ylabel=label, ylim=(-0.03, 1.03))
        plain(axes)
    _finish(figure, path, title)


def draw_neighbours(
    queries: Tensor,  # (queries, channels, height, width), 0 to 1
    images: Tensor,  # (examples, channels, height, width), 0 to 1
    found: Neighbours,
    path: Path,
    *,
    title: str = "",
) -> None:
    """Each query in a line with its nearest examples, and their Hamming distances."""
    rows, k = found.indices.shape
    height, width = images.shape[2:]
    # one picture with room above each image for its distance
    room, gap = -(-height // 5), -(-width // 12)
    sheet = torch.ones(images.shape[1], rows * (height + room), (k + 1) * (width + gap))
    figure = new_figure((1.1 * (k + 1), 1.1 * rows * (1 + room / height) * height / width + 0.3))
    axes = figure.subplots()
    for i in range(rows):
        tiles = [queries[i], *images[found.indices[i]]]
        labels = ["asked", *(f"{n:,}" for n in found.distances[i].tolist())]
        for j, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
            top, left = i * (height + room) + room, j * (width + gap)
            sheet[:, top : top + height, left : left + width] = tile
            axes.text(left + width / 2, top - 1, label, ha="center", va="bottom", fontsize=7)
    show_image(axes, sheet, "")
    axes.spines[:].set_visible(False)
    _finish(figure, path, title)


def draw_confusion(
    table: Tensor,  # (classes, classes), of examples
    classes: tuple[str, ...],
    path: Path,
    *,
    title: str = "",
) -> None:
    """Classes (down) against those of their nearest neighbours (across), each line as a share."""
    sides = {"across": "class of the nearest neighbour", "down": "class of the example"}
    _finish(confusion_figure(table, classes, **sides), path, title)


def draw_line(
    line: Line,
    path: Path,
    *,
    ends: tuple[Tensor, Tensor] | None = None,  # (channels, height, width) each, 0 to 1
    title: str = "",
) -> None:
    """How many units have switched on the way, by site; with `ends`, the images at both ends."""
    figure = new_figure((9, 3.6))
    if ends is None:
        middle = figure.subplots()
    else:
        left, middle, right = figure.subplots(1, 3, width_ratios=(1, 4, 1))
        show_image(left, ends[0], "t = 0")
        show_image(right, ends[1], "t = 1")
    for site, colour in zip(line.support.sites, COLOURS * len(line.support.sites), strict=False):
        at = [0.0, *(s.t for s in line.switches if s.site == site), 1.0]
        heights = [*range(len(at) - 1), len(at) - 2]
        middle.step(at, heights, where="post", color=colour, label=site.key, lw=1.2)
    middle.set(xlabel="t", ylabel="switches so far", xlim=(0, 1))
    middle.legend(frameon=False, fontsize=7)
    plain(middle)
    _finish(figure, path, title)


def draw_plane(plane: Plane, path: Path, *, title: str = "") -> None:
    """The regions of a triangle, each filled by the share of its units that are on."""
    from matplotlib.collections import PolyCollection

    shares = [float(one.density()) for one in plane.support]
    # corners of the triangle: a at the left, b at the right, c above
    turn = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5]], dtype=torch.float64).numpy()
    figure = new_figure((6, 5.2))
    axes = figure.subplots()
    cells = PolyCollection(
        [p @ turn for p in plane.polygons], array=shares, cmap="viridis", edgecolor="white", lw=0.3
    )
    axes.add_collection(cells)
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.06, 0.92), aspect="equal")
    axes.axis("off")
    for (x, y), name in zip(((-0.03, -0.03), (1.03, -0.03), (0.5, 0.89)), "abc", strict=True):
        axes.text(x, y, name, ha="center", va="center")
    figure.colorbar(cells, ax=axes, shrink=0.7, label="share of units that are on")
    _finish(figure, path, title or f"{len(plane.polygons):,} regions")


def draw_probe(probe: Probe, path: Path, *, title: str = "") -> None:
    """Drift from one recorded epoch to the next (left), and the share of units that are settled (right)."""
    drift, since = probe.drift(), probe.settled()
    epochs = list(probe.supports)
    figure = new_figure((10, 4))
    left, right = figure.subplots(1, 2)
    for (site, when), colour in zip(since.items(), COLOURS * len(since), strict=False):
        left.plot(
            list(drift), [d.by_site[site] for d in drift.values()], color=colour, label=site.key
        )
        right.plot(epochs, [float((when <= e).double().mean()) for e in epochs], color=colour)
    left.set(xlabel="epoch", ylabel="share of units on another side than before")
    right.set(xlabel="epoch", ylabel="share of units that keep their side from here on")
    left.legend(frameon=False, fontsize=7)
    plain(left)
    plain(right)
    _finish(figure, path, title)


def draw_match(matched: Matched, path: Path, *, title: str = "") -> None:
    """Share of equal masks of two networks by site: units as they are numbered, and matched."""
    figure = new_figure((7, 4))
    axes = figure.subplots()
    names = [site.key for site in matched.equal.by_site]
    places = torch.arange(len(names)).numpy()
    sets = ((matched.unmatched, "as numbered", COLOURS[-1]), (matched.equal, "matched", COLOURS[0]))
    for k, (share, label, colour) in enumerate(sets):
        values = list(share.by_site.values())
        axes.bar(places + 0.4 * (k - 0.5), values, 0.4, color=colour, label=label)
    axes.set_xticks(places, names, rotation=30, ha="right", fontsize=8)
    axes.set(ylabel="share of equal masks", ylim=(0, 1))
    axes.legend(frameon=False, fontsize=8)
    plain(axes)
    _finish(figure, path, title)


def _finish(figure: Any, path: Path, title: str) -> None:
    if title:
        figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=130)
