"""What is known of a run, epoch by epoch."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
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
    `stroke_visits` those that went forward only, in support strokes and drift checks. `held_steps` are
    the steps of this epoch that were taken under held masks. `density_by_site` and `drift_by_site` are
    the shares at each site, by its key. `note` says which settings were changed before the epoch, when its
    run went on.
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
    held_steps: int = 0
    density_by_site: dict[str, float] = field(default_factory=dict)
    drift_by_site: dict[str, float] = field(default_factory=dict)
    note: str = ""


SITES = ("epoch", "site", "density", "drift")
PLAIN = tuple(f.name for f in fields(EpochRecord) if not f.name.endswith("_by_site"))


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

    @property
    def steps(self) -> int:
        """Optimiser steps of all epochs; of several phases in a row, each of which counts from 0, their sum."""
        counts = [0, *self.column("steps")]
        return sum(now - before if now > before else now for before, now in pairwise(counts))

    @property
    def held_share(self) -> float:
        """Share of all steps that were taken under held masks."""
        return sum(record.held_steps for record in self.epochs) / max(1, self.steps)

    def save(self, path: str | PathLike[str]) -> None:
        """Write as CSV: one line for each epoch, numbers in full precision; a missing one is left empty.

        Shares by site are left to `save_sites`.
        """
        with replacing(Path(path)) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, PLAIN, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(asdict(record) for record in self.epochs)

    def save_sites(self, path: str | PathLike[str]) -> None:
        """Write as CSV: a line an epoch and site, with its density and, where masks are held, its drift."""
        with replacing(Path(path)) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(SITES)
            for record in self.epochs:
                for site, density in record.density_by_site.items():
                    writer.writerow(
                        [record.epoch, site, density, record.drift_by_site.get(site, "")]
                    )

    def load_sites(self, path: str | PathLike[str]) -> None:
        """Take up what `save_sites` wrote, in the epochs that it is of; `RunFolderError` for anything else."""
        known = {record.epoch: record for record in self.epochs}
        try:
            with Path(path).open(newline="") as file:
                for row in csv.DictReader(file):
                    record = known[int(row["epoch"])]
                    record.density_by_site[row["site"]] = float(row["density"])
                    if row["drift"]:
                        record.drift_by_site[row["site"]] = float(row["drift"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise RunFolderError(f"{path}: not shares by site of this run ({error})") from error

    @classmethod
    def load(cls, path: str | PathLike[str]) -> History:
        """Read what `save` wrote; `RunFolderError` names the file and the line that is off."""
        path = Path(path)
        kinds = {f.name: str(f.type) for f in fields(EpochRecord) if f.name in PLAIN}
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
