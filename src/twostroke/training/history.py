"""What is known of a run, epoch by epoch, and how it ended."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from .._files import replacing
from ..alternation import Phase
from ..errors import RunFolderError

GROWTH = 5  # times the loss before training, above which a run has diverged


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch. Losses are means; shares are 0 to 1; errors are in %; times in seconds.

    `epoch` counts from 1. `lr` is that of the step after the epoch, 0 after the last of a one-cycle run.
    `loss_train` is the mean over the epoch of what was descended on, held or live. `loss_live` and
    `loss_held` are those of the epoch's last weights on the same probe of training examples, by the
    network itself and under the held masks (None where nothing is held): they part when supports are
    held for too long; `error_live` and `error_held` are the errors beside them. `error` and `loss_test`
    are the live network's on the test set, `loss_average` and `error_average` those of the average of
    its weights, where one is kept. `density` is the share of units that are on, on the first 256
    examples of the probe. `drift` is the share of units whose mask, estimated anew, differs from the
    held one, on examples that the alternation watches (`InstanceWise.probe`). `steps` are the
    optimiser's so far; `visits` the examples that went forward and backward in this epoch, and
    `stroke_visits` those that went forward only, in support strokes and drift checks. `passes` are the
    visits in units of the epoch's examples, 1 but where a stroke-wise solver was at work; `optimality`
    is then the norm of the held objective's gradient after the epoch, relative to before. `resting` is
    how many sites rested.
    """

    epoch: int
    phase: str
    round: int
    steps: int
    visits: int
    stroke_visits: int
    lr: float
    loss_train: float
    loss_live: float
    loss_held: float | None
    loss_test: float
    error: float
    loss_average: float | None
    error_average: float | None
    drift: float | None
    density: float
    seconds: float
    stroke_seconds: float
    eval_seconds: float
    passes: float = 1.0
    optimality: float | None = None
    error_live: float | None = None
    error_held: float | None = None
    resting: int = 0


class History:
    """The epochs of a run, in order."""

    def __init__(self, epochs: Iterable[EpochRecord] = ()) -> None:
        self.epochs = list(epochs)

    def __len__(self) -> int:
        return len(self.epochs)

    def __iter__(self) -> Iterator[EpochRecord]:
        return iter(self.epochs)

    def __getitem__(self, index: int) -> EpochRecord:
        return self.epochs[index]

    def append(self, record: EpochRecord) -> None:
        """Add an epoch."""
        self.epochs.append(record)

    def column(self, name: str) -> list[Any]:
        """One quantity over the epochs."""
        return [getattr(record, name) for record in self.epochs]

    @property
    def seconds(self) -> float:
        """Training time, support strokes included, evaluation not."""
        return sum(record.seconds for record in self.epochs)

    def save(self, path: str | PathLike[str]) -> None:
        """Write as CSV: a line an epoch, numbers in full precision, empty where there is none."""
        with replacing(Path(path)) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, [f.name for f in fields(EpochRecord)])
            writer.writeheader()
            writer.writerows(asdict(record) for record in self.epochs)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> History:
        """Read what `save` wrote; `RunFolderError` names the file and the line that is off."""
        path = Path(path)
        kinds = {f.name: str(f.type) for f in fields(EpochRecord)}
        epochs = []
        try:
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    epochs.append(EpochRecord(**{k: _read(kinds[k], v) for k, v in row.items()}))
        except FileNotFoundError:
            raise RunFolderError(f"{path}: there is no such file") from None
        except (KeyError, TypeError, ValueError) as error:
            line = len(epochs) + 2
            raise RunFolderError(f"{path}, line {line}: not metrics of a run ({error})") from error
        return cls(epochs)


def divergence(record: EpochRecord, before: History, first: float) -> str | None:
    """Say in what way an epoch shows that its run has diverged; None if in none.

    `before` are the epochs before it, `first` the loss before training, or at chance. What counts is
    the loss that was descended on: the live loss is measured in evaluation mode, where batch norm's
    running statistics may lag behind weights that move fast, so that it is no sign by itself. Under held
    masks it is the only one, if it has grown since the round began.
    """
    if not math.isfinite(record.loss_live):
        return "the live loss is undefined"
    if record.loss_train > GROWTH * first:
        return (
            f"the loss is {record.loss_train:.3g}, more than {GROWTH} × {first:.3g}, which it was before "
            "training or is at chance"
        )
    if record.phase == Phase.HELD:
        begun = [one.loss_live for one in before if one.round != record.round]
        limit = max([first, *begun[-1:]])
        if record.loss_live > GROWTH * limit:
            return (
                f"the live loss is {record.loss_live:.3g}, more than {GROWTH} × {limit:.3g}, which it "
                "was when the masks were found, or before training, or is at chance"
            )
    return None


def _read(kind: str, text: str) -> Any:
    if text == "" and "None" in kind:
        return None
    return {"int": int, "str": str}.get(kind, float)(text)


class Status(Enum):
    """How a run ended; the value is the advice that goes with it."""

    FINISHED = "All epochs were run."
    TARGET = "The target error was reached; the remaining epochs were not run."
    DIVERGED = (
        "The loss exploded or became undefined. The weights are those of the last good epoch. Lower "
        "the learning rate, clip gradients (clip=5), or, where supports were held, shorten the weight "
        "stroke (gap) or tighten its drift limit (drift)."
    )
    INTERRUPTED = "Stopped on request. What was done is kept."


@dataclass(frozen=True)
class FitResult:
    """What `fit` returns: always this, whatever happened.

    `model` is the module that was given, trained in place; nothing wraps it. `detail` says in which epoch
    and step a run diverged or was stopped. `notes` say where masks are kept, how the last weight stroke
    of a stroke-wise solver ended, with advice, and which layers' problems were singular. `average` is a
    copy of the model with the average of its weights, of which `loss_average` and `error_average` tell,
    where `Settings.average` asked for one.
    """

    status: Status
    model: nn.Module
    history: History
    detail: str = ""
    notes: list[str] = field(default_factory=list)
    average: nn.Module | None = None

    @property
    def error(self) -> float:
        """Live test error of the last epoch, in %; NaN when there was none."""
        return self.history[-1].error if len(self.history) else float("nan")
