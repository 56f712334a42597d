"""What the pictures have in common: a figure without a window, axes without frills, SVG for a page."""

from __future__ import annotations

import io
import re
from typing import Any

from torch import Tensor

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
BLUE = COLOURS[0]
_TIP = "tip: "


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


def show_image(
    axes: Any,
    image: Tensor,  # (channels, height, width), 0 to 1
    title: str,
    size: float = 7,
) -> None:
    """An image without ticks; other than three channels are no colours, and their mean is shown."""
    shown = image.detach().cpu().float().clamp(0, 1)
    pixels = shown.permute(1, 2, 0) if len(shown) == 3 else shown.mean(0)
    axes.imshow(pixels.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=size, pad=2 if size < 10 else None)


def tip(axes: Any, low: float, high: float, text: str) -> None:
    """What a page tells where one points between two places of the x axis; nothing is drawn."""
    axes.axvspan(low, high, color="#000000", alpha=0, lw=0, gid=_TIP + text)


def svg(figure: Any, label: str) -> str:
    """The figure as an SVG element for a page: text as text, in the colours of the page, without fixed size.

    `label` says what it is to those who cannot see it. Black is the page's own colour of text, and the
    lines' colours are its variables --c0, --c1, ..., so that a dark page has light lines.
    """
    from html import escape

    from matplotlib import rc_context

    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):  # ids that differ by figure
        figure.savefig(file, format="svg", transparent=True, dpi=200, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "sans-serif", text)
    text = re.sub(f'<g id="{_TIP}([^"]*)">', r'<g class="tip"><title>\1</title>', text)
    text = re.sub(r' id="[\w.]+_\d+"', "", text)  # figure_1 and so on, of which a page has several
    for number, colour in enumerate(COLOURS):
        text = text.replace(colour, f"var(--c{number})")
    text = re.sub("#000000|#555555", "currentColor", text)
    width = float(figure.get_figwidth())
    text = re.sub(r'(width|height)="[\d.]+pt" ', "", text, count=2)
    return text.replace(
        "<svg ",
        f'<svg role="img" aria-label="{escape(label)}" style="max-width:{110 * width:.0f}px" ',
        1,
    )
