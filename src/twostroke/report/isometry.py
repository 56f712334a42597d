"""The table and the picture of `twostroke rip`: operators against eq. 29."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike

from ..theory.rip import RipReport
from .figure import COLOURS, new_figure, plain
from .sheet import Sheet

BAND = (0.9, 1.1)  # eq. 29 for ε → 0
FLOOR = 1e-6  # of the spectra's axis; what is smaller is drawn there


def nowhere(report: RipReport) -> int:
    """Directions that the operator sends to zero, up to rounding."""
    return int((report.spectrum <= 1e-12 * report.spectrum[-1]).sum())


def deltas_of(report: RipReport) -> tuple[float, ...]:
    """The restricted constants, up to the best multiple; of 1 × p blocks those of the whole spectrum.

    Such blocks have no rank but one, so that there was nothing to search.
    """
    if report.restricted or report.blocks is None or min(report.blocks[1:]) > 1:
        return tuple(entry.delta_scaled for entry in report.restricted)
    low, high = float(report.spectrum[0]), float(report.spectrum[-1])
    return (((high - low) / (high + low)) if high > 0 else 1.0,) * 2


def rip_sheet(found: Mapping[str, Sequence[RipReport]]) -> Sheet:
    """A line an operator, over its draws: extremes, the worst δ, and in how many eq. 29 holds."""
    rows = []
    for name, reports in found.items():
        first = reports[0]
        low = min(float(r.spectrum[0]) for r in reports)
        high = max(float(r.spectrum[-1]) for r in reports)
        deltas = [max(c) for c in zip(*map(deltas_of, reports), strict=True)]
        rows.append((
            name,
            f"{first.measurements}×{first.columns}",
            _span([r.zero_columns for r in reports]),
            _span([nowhere(r) for r in reports]),
            f"{0 if low < 1e-12 * high else low:.2g}–{high:.2g}",
            ", ".join(f"{d:.2f}" for d in deltas) or "–",
            f"{sum(r.satisfies_theorem for r in reports)} of {len(reports)}",
        ))  # fmt: skip
    heads = (
        "operator", "rows ×\ncolumns", "zero\ncolumns", "null\nspace", "λ²/m", "δ₁, δ₂",
        "eq. 29\nholds",
    )  # fmt: skip
    return Sheet("Eq. 29 and restricted isometry", heads, tuple(rows))


def draw_spectra(
    found: Mapping[str, Sequence[RipReport]], path: str | PathLike[str], *, note: str = ""
) -> None:
    """Draw every operator's λ²/m, scaled to mean 1, from the smallest to the largest, with eq. 29's band.

    One line a draw. To the left on a logarithmic axis, where what lies below `FLOOR` is drawn at its
    end; to the right the neighbourhood of the band.
    """
    figure = new_figure((12, 4.8))
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.axhspan(*BAND, color="#e3b505", alpha=0.45, lw=0, label="eq. 29: 0.9 to 1.1")
        for (name, reports), (colour, style) in zip(found.items(), _looks(found), strict=True):
            for draw, report in enumerate(reports):
                values = report.spectrum / report.spectrum.mean().clamp_min(1e-300)
                share = [100 * (k + 0.5) / len(values) for k in range(len(values))]
                label = name if draw == 0 else None
                axes.plot(
                    share, values.clamp_min(FLOOR).tolist(), style, color=colour, lw=1.2, label=label
                )  # fmt: skip
        axes.set(xlim=(0, 100), xlabel="eigenvalues, smallest first (% of columns)")
        plain(axes)
    left.set(yscale="log", ylim=(FLOOR * 0.7, None), ylabel="λ²/m over its mean")
    left.set_title("all of it", fontsize=9.5)
    right.set(ylim=(0, 2))
    right.set_title("near the band", fontsize=9.5)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    figure.suptitle("Spectra of operators against eq. 29's band", fontsize=11)
    if note:
        figure.supxlabel(note, fontsize=7.5, color="#555555")
    figure.savefig(path, dpi=130)


def _looks(names: Mapping[str, object]) -> list[tuple[str, str]]:
    """A colour for each first word of the names, and a line style for each that shares it."""
    words = [name.split()[0].rstrip(",") for name in names]
    kinds = list(dict.fromkeys(words))
    styles = (":", "-.", "--", "-")
    looks = []
    for place, word in enumerate(words):
        later = words[place + 1 :].count(word)  # the last of a kind is drawn full
        looks.append((COLOURS[kinds.index(word) % len(COLOURS)], styles[-1 - later % len(styles)]))
    return looks


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low}–{high}"
