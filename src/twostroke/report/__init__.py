"""Reports: learning curves (Fig. 1 and 3 of the paper) and tables of runs."""

from .curves import draw_curves, draw_training
from .table import comparison, to_targets

__all__ = ["comparison", "draw_curves", "draw_training", "to_targets"]
