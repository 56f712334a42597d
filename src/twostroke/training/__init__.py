"""Training: the driver `fit`, its settings, what it reports, and how it goes on after a stop.

`settings` · `visits`, in `order`: which examples an epoch sees · `rest`: which layers it trains · `checks`
before a run · `fit` the loop, with `stroke` for solvers · `measure` after each epoch · `evaluate` live or with
masks at test · `history` epochs, status, result · `checkpoint` resumable state, in `files` and `shares` ·
`engine` several processes · `run` a run's folder · `plan` what a large run takes.
"""

from .evaluate import MASK_AT_TEST, Evaluation, evaluate
from .fit import Progress, fit
from .history import EpochRecord, FitResult, History, Status
from .rest import Settled
from .run import RunFolder, versions
from .settings import Settings
from .visits import Selective

__all__ = [
    "MASK_AT_TEST",
    "EpochRecord",
    "Evaluation",
    "FitResult",
    "History",
    "Progress",
    "RunFolder",
    "Selective",
    "Settings",
    "Settled",
    "Status",
    "evaluate",
    "fit",
    "versions",
]
