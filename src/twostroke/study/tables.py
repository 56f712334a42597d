"""Tables of supports: layers, a probe over training, two runs."""

from __future__ import annotations

from ..report.sheet import Sheet
from ..support import Support
from .distances import unique
from .probe import Matched, Probe
from .units import counts, entropy


def layers(support: Support, title: str = "") -> Sheet:
    """A line a site: units, density, entropy, units that are dead or always on, different patterns."""
    rows, told = [], entropy(support)
    for site, n in counts(support).items():
        dead, always = int((n == 0).sum()), int((n == len(support)).sum())
        share = float(n.sum()) / max(1, site.units * len(support))
        cells = (f"{site.units:,}", f"{share:.3f}", f"{float(told[site].mean()):.3f}")
        patterns = unique(support, site=site).count
        rows.append((site.key, *cells, f"{dead:,}", f"{always:,}", f"{patterns:,}"))
    heads = ("site", "units", "on", "entropy\n(bits)", "dead", "always\non", "patterns")
    return Sheet(title, heads, tuple(rows))


def training(probe: Probe, title: str = "") -> Sheet:
    """A line a site: drift at the first and the last recorded epoch, and when units settle."""
    drift = list(probe.drift().values())
    rows = []
    for site, since in probe.settled().items():
        ends = (
            [f"{100 * d.by_site[site]:.1f}" for d in (drift[0], drift[-1])] if drift else ["–"] * 2
        )
        last = float((since == max(probe.supports)).double().mean()) if drift else 0.0
        rows.append((site.key, *ends, f"{int(since.median())}", f"{100 * last:.1f}"))
    heads = ("site", "first\ndrift %", "last\ndrift %", "median epoch\nof settling", "unsettled %")
    return Sheet(title, heads, tuple(rows))


def two_runs(matched: Matched, title: str = "") -> Sheet:
    """A line a site: share of equal masks, units as they are numbered and under the best matching."""
    rows = tuple(
        (site.key, f"{100 * matched.unmatched.by_site[site]:.1f}", f"{100 * share:.1f}")
        for site, share in matched.equal.by_site.items()
    )
    return Sheet(title, ("site", "equal %", "equal %,\nmatched"), rows)
