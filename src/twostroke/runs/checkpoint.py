"""Checkpoints: safetensors and JSON, written whole or not at all.

One is written after each epoch, and one within an epoch that takes long, in a file beside it. What is random
in an epoch follows from the run's seed and the epoch's number; within it the generators' states are kept. So a
run that goes on computes what it would have computed.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel

from .._files import sweep_partials
from ..errors import RunFolderError, SupportFileError, TwostrokeError
from ..processes import ONE, Processes
from ..support import Support
from .changes import changes
from .files import make_folder, read_tensors, save_tensors, save_text
from .history import EpochRecord, History
from .part import Part
from .shares import checksum_of, load_share, save_share, support_file
from .typed import pack, unpack

CHECKPOINT = "checkpoint.safetensors"  # its file in the folder, after an epoch
WITHIN = "within.safetensors"  # the one within the epoch that follows
DIVERGED = "diverged.txt"  # says how, until a run goes on well
_FORMAT = "twostroke-checkpoint"
# what a document raises that makes no sense
_SENSELESS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError)
_VERSION = 6  # 6: typed state, and checkpoints within an epoch
# what settings and schedules put into an optimiser's groups
_SCHEDULED = ("lr", "initial_lr", "max_lr", "min_lr", "momentum", "betas")


@contextmanager
def _sensible(file: Path) -> Iterator[None]:
    """What raises because a document makes no sense raises `RunFolderError`."""
    try:
        yield
    except TwostrokeError:
        raise
    except _SENSELESS as error:
        raise RunFolderError(f"{file} does not fit this run: {error}") from error


def resumable(folder: Path) -> bool:
    """Whether there is a checkpoint in the folder."""
    return (folder / CHECKPOINT).exists() or (folder / WITHIN).exists()


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
    part: Part | None

    @property
    def alternator(self) -> Alternates:
        """The state machine."""
        ...


class Checkpoint:
    """The resumable state of a run: `checkpoint.safetensors`, and a file of supports for a round.

    Supports in memory are copied, to `support-N.safetensors`; a store's own file is referred to. Of
    several processes each keeps its own supports, and the main one the rest. `notes` say what became
    of them when a run goes on with another number of processes.

    Within an epoch the state goes to `within.safetensors`, and the other file stays as it is: a run that
    diverges goes on from there.
    """

    def __init__(self, folder: Path, processes: Processes = ONE) -> None:
        self.folder = folder
        self.file = folder / CHECKPOINT
        self.within = folder / WITHIN
        self.notes: list[str] = []
        self._processes = processes
        self._copied: tuple[int, list[int]] | None = None  # round, and each share's checksum
        make_folder(folder)

    def check(self, run: Resumable) -> None:
        """Raise `SettingsError` that names what of a run's state cannot be kept."""
        _packed(run)

    def save(
        self,
        run: Resumable,
        history: History,
        identity: Mapping[str, Any],
        *,
        within: bool = False,
    ) -> None:
        """Keep the state after the last epoch of `history`, or `within` the one after it.

        `identity` must be equal at resume, but for what `changes` allows.
        """
        values, support = run.alternator.state()
        state, tensors = _packed(run)
        document = {
            "version": _VERSION,
            "identity": dict(identity),
            "history": [asdict(record) for record in history],
            "state": state,
            "alternation": pack(values, tensors, "alternation"),
            "processes": self._processes.count,
        }
        if within:
            assert run.part is not None
            document["part"] = pack(run.part.plain(), tensors, "part")
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
                save_tensors(
                    self.within if within else self.file, tensors, {_FORMAT: json.dumps(document)}
                )
        if within:  # what the checkpoint after the last epoch refers to stays
            return
        run.alternator.saved()
        if processes.main:
            for old in (self.within, self.folder / DIVERGED):
                old.unlink(missing_ok=True)
            for pattern in ("support-*.safetensors", "support-*.store" if kept else None):
                for old in self.folder.glob(pattern) if pattern else []:
                    if old not in kept:
                        old.unlink(missing_ok=True)

    def mark_diverged(self, detail: str) -> None:
        """Say that the run diverged after the checkpoint; what is within the epoch goes."""
        if self._processes.main:
            save_text(self.folder / DIVERGED, detail + "\n")
            self.within.unlink(missing_ok=True)

    @property
    def diverged(self) -> bool:
        """Whether the run ended so."""
        return (self.folder / DIVERGED).exists()

    def epochs(self) -> int:
        """How many epochs the checkpoint is after; 0 where there is no checkpoint, or it makes no sense."""
        return len(_glance(self.file).get("history", ()))

    def load(self, run: Resumable, identity: Mapping[str, Any]) -> Resumed:
        """Put a saved state back. Nothing is unpickled.

        Raises `RunFolderError` for a file that is missing, damaged, or of a run with other settings
        (named), before anything is changed. Where the checkpoint within an epoch is damaged and there is one
        after the epoch before, that one is taken, and a note says so.
        """
        functions = {"scheduler": run.scheduler.state_dict()}  # which are made again
        if not resumable(self.folder):
            raise RunFolderError(f"{self.file}: there is no checkpoint to go on from")
        whole = self.read(identity, functions=functions) if self.file.exists() else None
        saved = None
        history = _glance(self.within).get("history")
        stale = whole is not None and history is not None and len(history) < len(whole.history)
        if self.within.exists() and not stale:
            try:
                saved = self.read(identity, within=True, functions=functions)
                _restore(run, saved)
            except RunFolderError as error:
                if whole is None:
                    raise
                saved = None
                self.notes.append(f"{error}. The run goes on from its last whole epoch")
        if saved is None:
            assert whole is not None
            saved = whole
            _restore(run, saved)
        with _sensible(self.file):
            state = saved.state
            run.model.load_state_dict(state["model"])
            run.beside.load_state_dict(state["beside"])
            if run.average is not None:
                run.average.load_state_dict(state["average"])
            run.part = saved.part
            run.taken = saved.history[-1].steps if len(saved.history) else 0
            run.taken += 0 if saved.part is None else saved.part.step
            remade = saved.changed.keys() & {"epochs", "lr"}
            if remade and not isinstance(run.scheduler, ReduceLROnPlateau):
                groups = _stepped(run.optimizer, run.scheduler, run.taken)
                _put(run.optimizer, state["optimizer"])
                for group, now in zip(run.optimizer.param_groups, groups, strict=True):
                    group.update(now)
            else:
                _put(run.optimizer, state["optimizer"])
                run.scheduler.load_state_dict(state["scheduler"])
        if self._processes.main:
            sweep_partials(self.folder)
        good = None
        if whole is not None:
            good = [whole.state[name] for name in ("model", "average") if name in whole.state]
        return Resumed(saved.history, good, saved.changed)

    def read(
        self,
        identity: Mapping[str, Any],
        *,
        within: bool = False,
        functions: Mapping[str, Any] | None = None,
    ) -> Saved:
        """Read and verify what `save` wrote; raises as `load` does."""
        file = self.within if within else self.file
        tensors, metadata = read_tensors(file)
        try:
            document = json.loads(metadata[_FORMAT])
            if document["version"] != _VERSION:
                raise RunFolderError(
                    f"{file}: checkpoint format {document['version']!r}, this version reads {_VERSION}"
                )
            changed = changes(file, document["identity"], identity, diverged=self.diverged)
            values, support = unpack(document["alternation"], tensors), None
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
                file,
                History(EpochRecord(**record) for record in document["history"]),
                unpack(document["state"], tensors, functions),
                values,
                support,
                Part(**unpack(document["part"], tensors)) if "part" in document else None,
                changed,
            )
        except RunFolderError:
            raise
        except SupportFileError as error:
            raise RunFolderError(str(error)) from error
        except _SENSELESS as error:
            raise RunFolderError(f"{file} is not a checkpoint, or damaged: {error}") from error


class Saved(NamedTuple):
    """What a checkpoint holds."""

    file: Path
    history: History
    state: dict[str, Any]  # of model, modules beside it, average, optimiser and scheduler
    values: dict[str, Any]  # of the alternation
    support: Support | None
    part: Part | None  # of the epoch under way
    changed: dict[str, tuple[Any, Any]]  # settings, before and now


class Resumed(NamedTuple):
    """What `load` tells: epochs that were run, the weights after them, and settings that changed."""

    history: History
    good: list[Mapping[str, Any]] | None  # of the model and, where there is one, its average
    changed: dict[str, tuple[Any, Any]]


def _restore(run: Resumable, saved: Saved) -> None:
    """Give the alternation its state: first, because a store's file is verified here."""
    try:
        run.alternator.restore(saved.values, saved.support)
    except SupportFileError as error:
        raise RunFolderError(
            f"{error}. Weights and optimiser are whole, in {saved.file.name}, but this round cannot be "
            "resumed: put the file back from a copy"
        ) from error


def _packed(run: Resumable) -> tuple[Any, dict[str, Tensor]]:
    parts: dict[str, Any] = {"model": run.model, "beside": run.beside, "average": run.average}
    parts |= {"optimizer": run.optimizer, "scheduler": run.scheduler}
    tensors: dict[str, Tensor] = {}
    state = {
        name: pack(part.state_dict(), tensors, name)
        for name, part in parts.items()
        if part is not None
    }
    return state, tensors


def _put(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Give an optimiser its state as it was; PyTorch itself casts it to the type of the parameters."""
    optimizer.load_state_dict(saved)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, kept in saved["state"].items():
        here = optimizer.state[parameters[index]]
        for name, value in kept.items():
            if isinstance(value, Tensor) and isinstance(there := here.get(name), Tensor):
                here[name] = value.to(there.device, copy=True)


def _stepped(optimizer: Optimizer, scheduler: LRScheduler, taken: int) -> Sequence[dict[str, Any]]:
    """Step a new schedule to where the run is; gives what it makes of the optimiser's groups."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that no step was taken
        for _ in range(taken):
            scheduler.step()
    return [
        {name: group[name] for name in _SCHEDULED if name in group}
        for group in optimizer.param_groups
    ]


def _glance(file: Path) -> dict[str, Any]:
    """What a checkpoint's header says; nothing where it makes no sense."""
    try:
        with safe_open(file, framework="pt") as opened:
            document = json.loads(opened.metadata()[_FORMAT])
            return document if isinstance(document["history"], list) else {}
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RecursionError):
        return {}
