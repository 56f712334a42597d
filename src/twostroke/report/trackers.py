"""Trackers: TensorBoard, Weights & Biases, MLflow and others, told by way of Accelerate (extra `track`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import SettingsError, unknown
from ..runs import EpochRecord
from ..runs.history import PLAIN
from ..training import Listener, Progress

PROJECT = "twostroke"
_NAMED = {"wandb": ("name",), "mlflow": ("run_name",)}  # how a run's name is given, where it can be


class Tracked(Listener):
    """A listener that sends the numbers of each epoch to trackers, at the optimiser step they are of.

        with Tracked("tensorboard", "runs/a") as listener:
            ts.fit(model, data, listener=listener)

    `trackers` are one or several names of Accelerate: tensorboard, wandb, mlflow, comet_ml, aim, clearml,
    dvclive, swanlab, trackio. What they keep in files goes into `folder`, whose name is the run's.
    Quantities have the names of `EpochRecord`, those by site "drift_by_site/KEY"; parts of longer work stand
    before them, as in "sparse/error". `settings` are told at the beginning. Everything that is heard goes to
    another `listener` too. Nothing is begun or written before the first step.

    A tracker that fails later is told no more, and the run goes on, with a note.

    Raises `SettingsError` for a tracker that is not known, not installed or cannot begin.
    """

    def __init__(
        self,
        trackers: str | Sequence[str],
        folder: str | PathLike[str],
        *,
        listener: Listener | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.names = [trackers] if isinstance(trackers, str) else list(trackers)
        check_trackers(self.names)
        self.folder, self.inner = Path(folder), listener or Listener()
        self.settings = dict(settings or {})
        self._part = ""
        self._open: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for tracker in (self._open or {}).values():
            tracker.finish()
        self._open = None

    def note(self, text: str) -> None:
        """Passed on."""
        self.inner.note(text)

    def part(self, name: str) -> None:
        """Its name stands before the quantities from now on."""
        self._part = f"{name}/"
        self.inner.part(name)

    def step(self, where: Progress) -> None:
        """The first one begins the trackers' runs."""
        if self._open is None:
            self._open = {name: self._begin(name) for name in self.names}
        self.inner.step(where)

    def epoch(self, record: EpochRecord) -> None:
        """Its numbers are sent."""
        values = {name: getattr(record, name) for name in PLAIN}
        for name in ("density_by_site", "drift_by_site"):
            values |= {f"{name}/{site}": v for site, v in getattr(record, name).items()}
        sent = {self._part + k: v for k, v in values.items() if isinstance(v, int | float)}
        for name, tracker in list((self._open or {}).items()):
            try:
                tracker.log(sent, step=record.steps)
            except Exception as error:  # a service that is away must not end a run
                self.inner.note(f"{name} failed, and is told no more: {error}")
                del self._open[name]  # type: ignore[union-attr]
        self.inner.epoch(record)

    def _begin(self, name: str) -> Any:
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()  # without it its trackers cannot write to their log
        kind: Any = LOGGER_TYPE_TO_CLASS[name]
        try:
            if kind.requires_logging_directory:
                tracker = kind(name, self.folder)
            else:
                tracker = kind(PROJECT, **dict.fromkeys(_NAMED.get(name, ()), self.folder.name))
            tracker.start()
            if self.settings:
                tracker.store_init_configuration(self.settings)
        except Exception as error:
            raise SettingsError(f"{name} could not begin: {error}") from error
        return tracker


def check_trackers(names: Sequence[str]) -> None:
    """Raise `SettingsError` for a tracker that is not known or not installed."""
    if not names:
        return
    try:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
    except ImportError as error:
        raise SettingsError(
            "trackers are reached by Accelerate: pip install 'twostroke[track]'"
        ) from error
    there = [str(name) for name in get_available_trackers()]
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise SettingsError(unknown("tracker", name, LOGGER_TYPE_TO_CLASS))
        if name not in there:
            raise SettingsError(f"{name} is not installed: pip install {name.replace('_', '-')}")
