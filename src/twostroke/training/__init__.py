"""Training: the driver `fit`, its settings, what it reports, and how it measures.

`settings` how to train · `checks` and `trial` before a run · `fit` one call, `loop` its epochs and steps ·
`objective` what a step descends on, `adding` how losses of parts add up · `order` in which an epoch visits the
examples · `measure` after each epoch · `evaluate` live or with masks at test · `listener` who is told ·
`result` what comes back.
"""

from .evaluate import MASK_AT_TEST, Evaluation, evaluate
from .fit import fit
from .listener import Listener, Progress
from .objective import Batch, Objective
from .result import FitResult
from .settings import FAST, Settings

__all__ = [
    "FAST",
    "MASK_AT_TEST",
    "Batch",
    "Evaluation",
    "FitResult",
    "Listener",
    "Objective",
    "Progress",
    "Settings",
    "evaluate",
    "fit",
]
