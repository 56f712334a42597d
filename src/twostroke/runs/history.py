"""What is known of a run, epoch by epoch."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

from .._files import replacing
from ..errors import RunFolderError


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
    examples of the probe. `drift` is the share of units whose mask, recorded again, differs from the
    held one, on examples that the alternation watches (`InstanceWise.probe`). `steps` are the
    optimiser's so far; `visits` the examples that went forward and backward in this epoch, and
    `stroke_visits` those that went forward only, in support strokes and drift checks. `note` says which
    settings were changed before the epoch, when its run went on.
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
    error_live: float
    loss_held: float | None
    error_held: float | None
    loss_test: float
    error: float
    loss_average: float | None
    error_average: float | None
    drift: float | None
    density: float
    seconds: float
    stroke_seconds: float
    eval_seconds: float
    note: str = ""


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


def _read(kind: str, text: str) -> Any:
    if text == "" and "None" in kind:
        return None
    return {"int": int, "str": str}.get(kind, float)(text)
