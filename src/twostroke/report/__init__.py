"""Reports: pictures and tables.

`curves` learning curves (Fig. 1 and 3 of the paper) · `table` runs side by side · `explanation` what a logit
comes from, of a `subject`, drawn by `saliency` · `isometry` operators against eq. 29 · `recovery` of weights
given their support · `sheet` text tables, for the terminal and as Markdown · `figure` what the pictures
have in common.
"""

from .curves import draw_curves, draw_training
from .table import comparison, to_targets

__all__ = ["comparison", "draw_curves", "draw_training", "to_targets"]
