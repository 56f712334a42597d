"""Density and drift by site: what alternation did, layer by layer."""

from __future__ import annotations

from typing import Any

from ..runs import History
from .figure import BLUE, new_figure
from .sheet import Sheet

LABELLED = 40  # sites that have their names beside the picture


def sites_figure(history: History, quantity: str) -> Any:
    """Draw "density" or "drift" of each site (down) by epoch (across), in %, as a matplotlib `Figure`."""
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import MaxNLocator

    column = f"{quantity}_by_site"
    epochs = [record for record in history if getattr(record, column)]
    sites = list(getattr(epochs[-1], column))
    values = np.array(
        [[100 * getattr(r, column).get(site, np.nan) for r in epochs] for site in sites]
    )
    figure = new_figure((7, 1.6 + 0.22 * min(len(sites), LABELLED)))
    axes = figure.subplots()
    shades = LinearSegmentedColormap.from_list("shades", [f"{BLUE}10", BLUE])
    edges = (epochs[0].epoch - 0.5, epochs[-1].epoch + 0.5, len(sites) - 0.5, -0.5)
    shown = axes.imshow(values, cmap=shades, aspect="auto", interpolation="nearest", extent=edges)
    figure.colorbar(shown, label=f"{quantity} (%)").outline.set_visible(False)
    axes.set(xlabel="epoch", ylabel="site")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(sites) <= LABELLED:
        axes.set_yticks(range(len(sites)), sites, fontsize=8, parse_math=False)
    axes.spines[:].set_visible(False)
    return figure


def sites_sheet(history: History) -> Sheet:
    """Density after the last epoch and the drift that was measured last, of each site in %."""
    last = history[-1].density_by_site
    drift = next((r.drift_by_site for r in reversed(history.epochs) if r.drift_by_site), {})
    rows = [
        (site, f"{100 * density:.1f}", f"{100 * drift[site]:.1f}" if site in drift else "–")
        for site, density in last.items()
    ]
    return Sheet("", ("site", "density %", "drift %"), tuple(rows))
