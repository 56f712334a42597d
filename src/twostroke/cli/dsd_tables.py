"""Tables of `twostroke dsd`: a line a phase, and how sparse each layer was."""

from __future__ import annotations

import math
from pathlib import Path

from rich.table import Table

from ..sparsity import DenseSparseDenseResult, weighted_layers

EXPLANATION = """
found     test error of the weights that the phase began with, in %
masked    the same after masks were set (sparse) or released (dense again)
renormed  the same after batch norm's statistics were estimated again
end       test error at the end of the phase
zeros     share of the weights that are zero then; off: units that masks switch off
"""
LINES = 12


def phase_table(result: DenseSparseDenseResult) -> Table:
    """A line a phase: errors around the change of masks and at the end, and how sparse it is."""
    shown = Table(title="test error in %", title_justify="left")
    shown.add_column("phase")
    heads = ("epochs", "lr", "found", "masked", "renormed", "end", "zeros %")
    units = any(phase.units_on is not None for phase in result.phases)
    for head in (*heads, *(["off %"] if units else [])):
        shown.add_column(head, justify="right")
    for phase in result.phases:
        cells = [str(phase.epochs), f"{phase.lr:g}"]
        errors = (phase.error_before, phase.error_masked, phase.error_estimated, phase.error)
        cells += ["–" if math.isnan(error) else f"{error:.2f}" for error in errors]
        cells.append(f"{100 * phase.sparsity:.1f}")
        if units:
            cells.append("–" if phase.units_on is None else f"{100 * (1 - phase.units_on):.1f}")
        shown.add_row(phase.name, *cells)
    return shown


def layer_table(result: DenseSparseDenseResult, file: Path) -> Table | None:
    """Zeros of each layer at the end of the sparse phase, the sparsest first; None where no layer has any.

    Of many layers the last line sums up the rest; `file` has them all.
    """
    if not result.sparse_sparsity:
        return None
    sizes = {path: layer.weight.numel() for path, layer in weighted_layers(result.model).items()}
    shares = sorted(result.sparse_sparsity.by_layer.items(), key=lambda item: -item[1])
    shown = Table(title="zeros after the sparse phase", title_justify="left")
    shown.add_column("layer")
    for head in ("weights", "zeros %"):
        shown.add_column(head, justify="right")
    listed = shares if len(shares) <= LINES else shares[: LINES - 1]
    for path, share in listed:
        shown.add_row(path, f"{sizes[path]:,}", f"{100 * share:.1f}")
    rest = shares[len(listed) :]
    if rest:
        weights = sum(sizes[path] for path, _ in rest)
        zeros = sum(sizes[path] * share for path, share in rest)
        shown.add_row(f"{len(rest)} others", f"{weights:,}", f"{100 * zeros / weights:.1f}")
        if file.exists():
            shown.caption = f"by_layer in {file} has all"
    return shown
