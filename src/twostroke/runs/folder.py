"""A run's folder: what was asked for, what came out, and with which versions.

`config.toml` repeats the run, and `weights.json` says how it began from weights, `guide.safetensors` what its
teacher said; `metrics.csv` has a line an epoch, `sites.csv` a line an epoch and site;
`model.safetensors` the last weights, `average.safetensors` their average where one was kept,
`whitening.safetensors` how images were whitened; `answers.safetensors` what the model says of the test set;
`versions.json` the software and the machine; `checkpoint.safetensors` and `support-N.safetensors` or
`support-N.store` what is needed to go on; `curves.png` the picture, and `report.html` all of it to look at.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli_w
from torch import nn

from .._files import sweep_partials
from .._version import __version__
from ..errors import RunFolderError, unknown
from .about import About
from .checkpoint import CHECKPOINT, DIVERGED, resumable
from .files import read_weights, save_text, save_weights
from .history import History
from .lock import alone
from .versions import versions


class RunFolder:
    """Reads and writes the files of one run; where they lie is told by `config_file` and the like."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.toml"
        self.versions_file = self.path / "versions.json"
        self.beginning_file = self.path / "weights.json"
        self.guide_file = self.path / "guide.safetensors"
        self.metrics_file = self.path / "metrics.csv"
        self.sites_file = self.path / "sites.csv"
        self.answers_file = self.path / "answers.safetensors"
        self.model_file = self.path / "model.safetensors"
        self.average_file = self.path / "average.safetensors"
        self.curves_file = self.path / "curves.png"
        self.report_file = self.path / "report.html"

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: Mapping[str, Any]) -> RunFolder:
        """Make the folder and write its configuration; raises as `check_vacant`."""
        run = cls(path)
        known = run.config_file.exists()  # asked first: another run may begin just now
        run.check_vacant(config)
        if known:  # of this very run, stopped in its first epoch
            return run
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            # of two that begin at once the second fails here, before anything is overwritten
            with run.versions_file.open("x") as file:
                file.write(json.dumps(versions(), indent=2) + "\n")
            run.configure(config)  # last: with it the folder is a run's
        except FileExistsError as error:
            raise RunFolderError(f"{run.path}: another run has just begun there") from error
        except OSError as error:
            run.discard()
            raise RunFolderError(f"{run.path} cannot be written: {error}") from error
        return run

    def configure(self, config: Mapping[str, Any]) -> None:
        """Write the configuration."""
        save_text(
            self.config_file, tomli_w.dumps({k: v for k, v in config.items() if v is not None})
        )

    def check_vacant(self, config: Mapping[str, Any] | None = None) -> None:
        """Raise `RunFolderError` where something is in the folder.

        A run of the same `config` that was stopped in its first epoch may be: the same command goes on with it.
        """
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return
        if config is not None and self.config_file.exists() and not self._has_an_epoch():
            plain = {name: value for name, value in config.items() if value is not None}
            if self.config() == tomllib.loads(tomli_w.dumps(plain)):
                return
        raise RunFolderError(
            f"{self.path} already holds something: choose another --out or remove it{self._resume()}"
        )

    def check_there(self) -> None:
        """Raise `RunFolderError` where there is no run in the folder; it names those beside it."""
        if not self.config_file.exists():
            beside = sorted(file.parent.name for file in self.path.parent.glob("*/config.toml"))
            raise RunFolderError(f"{self.path}: {unknown('run', self.path.resolve().name, beside)}")

    def _has_an_epoch(self) -> bool:
        """Whether an epoch was completed, in any part of the run."""
        files = CHECKPOINT, "phase.json", self.metrics_file.name, self.model_file.name
        return any(True for name in files for _ in self.path.rglob(name))

    def _resume(self) -> str:
        """How to go on with the run in the folder, if there is one that can be resumed."""
        with suppress(RunFolderError):
            command = self.config().get("command", "train")
            if command in ("train", "dsd", "distill"):
                return (
                    f", or go on with the run in it by `twostroke {command} --resume {self.path}`"
                )
        return ""

    def discard(self) -> None:
        """Undo `create` for a run that was refused before it began; not where another one is at work.

        What its command keeps of its beginning goes too.
        """
        with alone(self.path):
            self.clear()
            for file in (
                self.config_file,
                self.versions_file,
                self.beginning_file,
                self.guide_file,
            ):
                file.unlink(missing_ok=True)
            with suppress(OSError):  # whatever else is in it stays
                self.path.rmdir()

    @property
    def begun(self) -> bool:
        """Whether there is anything to go on from: a checkpoint, or what is left of a whole run."""
        left = self.metrics_file.exists() or self.model_file.exists()
        return resumable(self.path) or (left and not self.diverged)

    @property
    def diverged(self) -> bool:
        """Whether the run ended so."""
        return (self.path / DIVERGED).exists()

    def clear(self) -> None:
        """Remove what a run that was killed before its first checkpoint has left."""
        with alone(self.path):
            sweep_partials(self.path)
            for path in self.path.glob("support-*"):
                path.unlink(missing_ok=True)
            for process in self.path.glob(
                "process-*-of-*"
            ):  # where each of several stored its masks
                sweep_partials(process)
                for path in process.glob("support-*"):
                    path.unlink(missing_ok=True)
                with suppress(OSError):  # whatever else is in it stays
                    process.rmdir()

    def config(self) -> dict[str, Any]:
        """The configuration; `RunFolderError` when this is no run's folder."""
        return read_toml(self.config_file)

    def history(self) -> History:
        """The epochs that were run."""
        if not self.path.is_dir():
            raise RunFolderError(f"{self.path}: there is no such folder")
        history = History.load(self.metrics_file)
        if self.sites_file.exists():
            history.load_sites(self.sites_file)
        return history

    def save_history(self, history: History) -> None:
        """Write the metrics."""
        try:
            history.save(self.metrics_file)
            if any(record.density_by_site for record in history):
                history.save_sites(self.sites_file)
        except OSError as error:
            raise RunFolderError(f"{self.metrics_file} could not be written: {error}") from error

    def save_model(
        self,
        model: nn.Module,
        average: nn.Module | None = None,
        about: About | None = None,
    ) -> None:
        """Write the weights, and those of their average, under the model's own names.

        `about` is what the model's use needs beside them; it goes into the files' headers, and a whitening
        into a file of its own.
        """
        header = {"twostroke": __version__}
        if about is not None:
            header["about"] = about.to_json()
            about.save_whitening(self.path)
        save_weights(self.model_file, model.state_dict(), header)
        if average is not None:
            save_weights(self.average_file, average.state_dict(), header)

    def load_model(self, model: nn.Module, *, average: bool = False) -> None:
        """Put the run's weights, or their average, into a model of the same kind."""
        file = self.average_file if average else self.model_file
        weights, _ = read_weights(file, unchecked=True)
        name = self.config().get("model") if self.config_file.exists() else None
        load_weights(model, weights, file, of=name)


def load_weights(
    model: nn.Module, weights: Mapping[str, Any], path: Path, *, of: str | None = None
) -> None:
    """Put weights that were read from `path` into a model; where they tell no versions, they have its own.

    Raises `RunFolderError` with the first difference where they are another model's, such as that `of`.
    """
    wanted = model.state_dict()
    misfit = _misfit(weights, wanted)
    if misfit:
        said = f" ({of})" if of else ""
        raise RunFolderError(f"{path} holds the weights of another model{said}: {misfit}")
    state = OrderedDict(weights)
    state._metadata = getattr(weights, "_metadata", wanted._metadata)  # type: ignore[attr-defined]
    model.load_state_dict(state)


def _misfit(weights: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The first difference between two sets of weights in one line, or nothing."""
    for name, value in wanted.items():
        if name not in weights:
            return f"it has no {name}"
        there, here = (getattr(one, "shape", ()) for one in (weights[name], value))
        if there != here:
            return f"{name} is {tuple(there)} in it, not {tuple(here)}"
    extra = next((name for name in weights if name not in wanted), None)
    return f"it has {extra} besides" if extra else ""


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file; `RunFolderError` names the file and what is off."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise RunFolderError(f"{path}: there is no such file") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path} is not a TOML file: {error}") from error
