"""What the pictures have in common: a figure without a window, axes without frills."""

from __future__ import annotations

from typing import Any

BLUE = "#3b6ea8"


def new_figure(size: tuple[float, float]) -> Any:
    """A matplotlib `Figure` of (width, height) inches."""
    # the object interface: no global state of pyplot, no window
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Any) -> None:
    """A light grid behind what is drawn, and no lines at the top and on the right."""
    axes.grid(alpha=0.25, which="both", lw=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
