"""Reports: pictures, tables and pages.

`reports` the page of a run, or of several, by `page` · `curves` learning curves (Fig. 1 and 3 of the paper) ·
`answers` what a model says of a test set, `confusion` which class it takes for which · `sites` density and
drift by site · `table` runs side by side · `trackers` TensorBoard and others · `explanation` what a logit
comes from, of a `subject`, drawn by `saliency` · `isometry` operators against eq. 29 · `recovery` of weights
given their support · `sheet` text tables, for the terminal, as Markdown and on a page · `figure` what the
pictures have in common.
"""

from .answers import Answers
from .curves import draw_curves, draw_training
from .reports import write_comparison, write_report
from .table import comparison, differing, to_targets
from .trackers import Tracked

__all__ = [
    "Answers",
    "Tracked",
    "comparison",
    "differing",
    "draw_curves",
    "draw_training",
    "to_targets",
    "write_comparison",
    "write_report",
]
