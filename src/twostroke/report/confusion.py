"""Confusion: which class is answered where which is right, as counts, a picture and the worst pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .figure import BLUE, new_figure

NUMBERED = 20  # classes up to which a cell shows its count, and each class its name


def confusion_counts(
    predicted: Tensor,  # (examples,) class that is answered
    labels: Tensor,  # (examples,) class that is right
    classes: int,
) -> Tensor:
    """How often each class was answered where each was right: (classes, classes) int64.

    A row is a right class, a column an answer; the diagonal holds what was answered right.
    """
    pairs = labels.long().cpu() * classes + predicted.long().cpu()
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)


def worst_pairs(counts: Tensor, most: int = 10) -> list[tuple[int, int, int]]:
    """The most frequent mistakes: (right class, answer, count), the most frequent first."""
    off = counts.clone().fill_diagonal_(0).flatten()
    found = off.sort(descending=True, stable=True).indices[:most].tolist()
    size = len(counts)
    return [(place // size, place % size, int(off[place])) for place in found if off[place] > 0]


def confusion_figure(
    counts: Tensor, classes: Sequence[str], *, across: str = "answer", down: str = "right class"
) -> Any:
    """Draw what `confusion_counts` gives, as a matplotlib `Figure`; `across` and `down` say what classes are.

    The shade of a cell is the root of its share of the row, of the images that truly are of that class, so
    that few mistakes show too. Up to 20 classes have their names and counts; more have no room for them.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from matplotlib.ticker import MaxNLocator

    size = len(classes)
    named = size <= NUMBERED
    figure = new_figure((3 + 0.42 * size, 2.2 + 0.42 * size) if named else (8, 7))
    axes = figure.subplots()
    shares = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    # from nothing to full blue, so that a page's own background shows through
    shades = LinearSegmentedColormap.from_list("shades", [f"{BLUE}00", BLUE])
    axes.imshow(shares.numpy(), cmap=shades, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    axes.set(xlabel=across, ylabel=down)
    if named:
        names = [name if len(name) <= 18 else f"{name[:17]}…" for name in classes]
        turned = max(map(len, names)) > 2
        sideways = {"rotation": 60, "ha": "right"} if turned else {}
        axes.set_xticks(range(size), names, parse_math=False, **sideways)
        axes.set_yticks(range(size), names, parse_math=False)
        for (row, column), count in _cells(counts):
            strong = float(shares[row, column]) > 0.4
            axes.text(
                column,
                row,
                f"{count}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if strong else "black",
            )
    else:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set(xlabel=f"{across} (its number)", ylabel=f"{down} (its number)")
    axes.spines[:].set_visible(False)
    return figure


def _cells(counts: Tensor) -> list[tuple[tuple[int, int], int]]:
    """Places that are not 0, and their counts."""
    return [((row, column), int(counts[row, column])) for row, column in counts.nonzero().tolist()]
