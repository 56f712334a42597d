"""Checkpoints between epochs: safetensors and JSON, written whole or not at all.

Everything random in a run follows from its seed and the epoch's number, so a checkpoint holds no
generator states: a run that goes on from one computes what it would have computed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from .._files import sweep_partials
from ..errors import RunFolderError, SupportFileError, TwostrokeError
from ..processes import ONE, Processes
from ..support import Support
from .files import make_folder, read_tensors, save_tensors
from .history import EpochRecord, History
from .shares import checksum_of, load_share, save_share, support_file

CHECKPOINT = "checkpoint.safetensors"  # its file in the folder
_FORMAT = "twostroke-checkpoint"
# what a document raises that makes no sense
_SENSELESS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError)
_VERSION = 5  # 5: with modules that are trained beside the model


class Alternates(Protocol):
    """What a checkpoint asks of a state machine of alternation."""

    round: int

    def state(self) -> tuple[dict[str, Any], Support | None]:
        """Plain values, and the stored support."""
        ...

    def restore(self, values: Mapping[str, Any], support: Support | None) -> None:
        """Go on from them."""
        ...

    def saved(self) -> None:
        """They are safe on disk."""
        ...


class Resumable(Protocol):
    """What a run must keep to go on. `beside` are modules that are trained beside the model, by name."""

    model: nn.Module
    beside: nn.ModuleDict
    optimizer: Optimizer
    scheduler: LRScheduler
    average: AveragedModel | None
    taken: int

    @property
    def alternator(self) -> Alternates:
        """The state machine."""
        ...


class Checkpoint:
    """The resumable state of a run: `checkpoint.safetensors`, and a file of supports for a round.

    Supports in memory are copied, to `support-N.safetensors`; a store's own file is referred to. Of
    several processes each keeps its own supports, and the main one the rest. `notes` say what became
    of them when a run goes on with another number of processes.
    """

    def __init__(self, folder: Path, processes: Processes = ONE) -> None:
        self.folder = folder
        self.file = folder / CHECKPOINT
        self.notes: list[str] = []
        self._processes = processes
        self._copied: tuple[int, list[int]] | None = None  # round, and each share's checksum
        make_folder(folder)

    def save(self, run: Resumable, history: History, identity: Mapping[str, Any]) -> None:
        """Keep the state after the last epoch of `history`; `identity` must be equal at resume."""
        values, support = run.alternator.state()
        parts = {"model": run.model.state_dict(), "beside": run.beside.state_dict()}
        if run.average is not None:
            parts["average"] = run.average.state_dict()
        tensors = {f"{part}.{name}": t for part, all_ in parts.items() for name, t in all_.items()}
        packed = run.optimizer.state_dict()
        plain: dict[str, Any] = {}
        for index, entries in packed["state"].items():
            for name, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{index}.{name}"] = value
                else:
                    plain[f"{index}.{name}"] = value
        document = {
            "version": _VERSION,
            "identity": dict(identity),
            "history": [asdict(record) for record in history],
            "optimizer": {"groups": packed["param_groups"], "plain": plain},
            "scheduler": {
                # functions, as LambdaLR has them, are made again from the settings
                k: v
                for k, v in run.scheduler.state_dict().items()
                if not _has_function(v)
            },
            "alternation": values,
            "processes": self._processes.count,
        }
        processes, round_ = self._processes, run.alternator.round
        kept: list[Path] = []
        if support is not None:
            # a name a round: the one before stays until the checkpoint is in place
            every = range(processes.count)
            kept = [support_file(self.folder, round_, k, processes.count) for k in every]
            if self._copied is None or self._copied[0] != round_:
                support = support.to("cpu")
                with processes.together():
                    save_share(support, kept[processes.index])
                sums = torch.zeros(processes.count, dtype=torch.int64)
                sums[processes.index] = checksum_of(support)
                self._copied = round_, processes.sum(sums).tolist()
            document["support"] = self._copied[1]
        with processes.together():
            if processes.main:
                save_tensors(self.file, tensors, {_FORMAT: json.dumps(document)})
        run.alternator.saved()
        if processes.main:
            for pattern in ("support-*.safetensors", "support-*.store" if kept else None):
                for old in self.folder.glob(pattern) if pattern else []:
                    if old not in kept:
                        old.unlink(missing_ok=True)

    def epochs(self) -> int:
        """How many epochs the checkpoint is after; 0 where there is no checkpoint, or it makes no sense."""
        try:
            with safe_open(self.file, framework="pt") as file:
                return len(json.loads(file.metadata()[_FORMAT])["history"])
        except (SafetensorError, OSError, LookupError, TypeError, ValueError, RecursionError):
            return 0

    def load(self, run: Resumable, identity: Mapping[str, Any]) -> History:
        """Put a saved state back; gives the epochs that were run. Nothing is unpickled.

        Raises `RunFolderError` for a file that is missing, damaged, or of a run with other settings
        (named), before anything is changed.
        """
        saved = self.read(identity)
        try:
            self._put_back(saved, run)
        except TwostrokeError:
            raise
        except _SENSELESS as error:
            raise RunFolderError(f"{self.file} does not fit this run: {error}") from error
        if self._processes.main:
            sweep_partials(self.folder)
        return saved.history

    def _put_back(self, saved: Saved, run: Resumable) -> None:
        parts: dict[str, dict[str, Tensor]] = {name: {} for name in ("model", "beside", "average")}
        state: dict[int, dict[str, Any]] = {}
        for name, value in saved.plain.items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        for name, tensor in saved.tensors.items():
            part, _, key = name.partition(".")
            if part == "optimizer":
                index, _, key = key.partition(".")
                state.setdefault(int(index), {})[key] = tensor
            else:
                parts[part][key] = tensor
        try:  # first, because a store's file is verified here
            run.alternator.restore(saved.values, saved.support)
        except SupportFileError as error:
            raise RunFolderError(
                f"{error}. Weights and optimiser are whole, in {self.file.name}, but this round cannot be "
                "resumed: put the file back from a copy"
            ) from error
        run.model.load_state_dict(parts["model"])
        run.beside.load_state_dict(parts["beside"])
        run.optimizer.load_state_dict({"state": state, "param_groups": saved.groups})
        run.scheduler.load_state_dict(run.scheduler.state_dict() | saved.schedule)
        if run.average is not None:
            run.average.load_state_dict(parts["average"])
        run.taken = saved.history[-1].steps

    def read(self, identity: Mapping[str, Any]) -> Saved:
        """Read and verify what `save` wrote; raises as `load` does."""
        if not self.file.exists():
            raise RunFolderError(f"{self.file}: there is no checkpoint to go on from")
        tensors, metadata = read_tensors(self.file)
        try:
            document = json.loads(metadata[_FORMAT])
            if document["version"] != _VERSION:
                raise RunFolderError(
                    f"{self.file}: checkpoint format {document['version']!r}, this version reads "
                    f"{_VERSION}"
                )
            _compare(self.file, document["identity"], json.loads(json.dumps(dict(identity))))
            values, support = document["alternation"], None
            if "support" in document:
                saved_by = int(document["processes"])
                support = load_share(
                    self.folder, values["round"], saved_by, self._processes, document["support"]
                )
                if saved_by != self._processes.count:
                    self.notes.append(
                        f"the stored supports of {saved_by} process{'es' * (saved_by > 1)} were shared "
                        f"out to {self._processes.count}; none was estimated again"
                    )
            return Saved(
                History(EpochRecord(**record) for record in document["history"]),
                tensors,
                document["optimizer"]["plain"],
                document["optimizer"]["groups"],
                document["scheduler"],
                values,
                support,
            )
        except RunFolderError:
            raise
        except SupportFileError as error:
            raise RunFolderError(str(error)) from error
        except _SENSELESS as error:
            raise RunFolderError(f"{self.file} is not a checkpoint, or damaged: {error}") from error


class Saved(NamedTuple):
    """What a checkpoint holds."""

    history: History
    tensors: dict[str, Tensor]  # of model, optimiser and average, by prefix
    plain: dict[str, Any]  # what an optimiser keeps beside tensors
    groups: list[dict[str, Any]]
    schedule: dict[str, Any]
    values: dict[str, Any]  # of the alternation
    support: Support | None


def _compare(file: Path, saved: dict[str, Any], now: dict[str, Any]) -> None:
    for name in sorted(saved.keys() | now.keys()):
        if saved.get(name) != now.get(name):
            raise RunFolderError(
                f"{file} is of a run with {name} = {saved.get(name)!r}, not {now.get(name)!r}: resume "
                "with the settings that it was started with"
            )


def _has_function(value: Any) -> bool:
    values = value if isinstance(value, list | tuple) else [value]
    return any(callable(v) or v is None for v in values)
