"""Cells: one arm of one task with one seed, trained once and kept as one JSON file."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data import Data, draw_some
from ..data.bundle import Divisible
from ..errors import DeadLayerError, RunFolderError
from ..models import create_model
from ..outcome import Status
from ..runs import EpochRecord, History, RunFolder, make_folder, resumable, save_text, versions
from ..sparsity import Recipe, dense_sparse_dense, recipe
from ..training import MASK_AT_TEST, FitResult, Listener, Settings, evaluate, fit
from ..training.settings import Precision
from .tasks import Task, alternation


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one run is: everything that its result depends on.

    `augmentation` is what the data are augmented by, which for a stand-in may not be the task's, and
    `examples` a fingerprint of them before preprocessing.
    """

    task: str
    arm: str
    seed: int
    scale: str
    data: Data
    augmentation: str
    examples: str
    spec: Task
    precision: Precision = "fp32"
    channels_last: bool = False

    @property
    def identity(self) -> dict[str, Any]:
        """Plain values that tell this run from any other."""
        settings = {
            f.name: _plain(getattr(self.settings, f.name))
            for f in fields(Settings)
            if f.name != "device"
        }
        told: dict[str, Any] = {
            "task": self.task,
            "arm": self.arm,
            "scale": self.scale,
            "data": self.data.name,
            "note": self.data.note,
            "examples": self.examples,
            "model": self.spec.model,
            "augmentation": self.augmentation,
            "settings": settings,
        }
        if self.spec.sparse:
            told["phases"] = asdict(self.plan)
        else:
            told["alternation"] = repr(alternation(self.arm, self.settings.epochs))
        return told

    @property
    def settings(self) -> Settings:
        """Settings of the run (for dense-sparse-dense, of its phases)."""
        if self.spec.sparse:
            plan = recipe(self.spec.model)
            small = {"batch_size": 16, "probe": 50} if self.scale == "smoke" else {}
            common = {"batch_size": plan.batch_size, "weight_decay": plan.weight_decay}
            settings = Settings(schedule=plan.schedule, warmup_share=0.0).but(**(common | small))
        else:
            settings = self.spec.settings_at(self.scale)
        return settings.but(
            seed=self.seed,
            batch_size=min(settings.batch_size, len(self.data.train)),
            precision=self.precision,
            channels_last=self.channels_last,
        )

    @property
    def plan(self) -> Recipe:
        """Phases of dense-sparse-dense; the smoke scale learns as much slower as its batches are small."""
        plan = recipe(self.spec.model).scaled(self.scale)
        share = min(1.0, self.settings.batch_size / plan.batch_size)
        a, b, c = (share * lr for lr in plan.lrs)
        return replace(plan, lrs=(a, b, c)) if self.scale == "smoke" else plan

    @property
    def name(self) -> str:
        """File name, without suffix; runs that differ in anything have different ones."""
        told = json.dumps(self.identity, sort_keys=True).encode()
        return f"{self.task}-{self.arm}-{self.scale}-seed{self.seed}-{hashlib.sha256(told).hexdigest()[:8]}"

    @property
    def label(self) -> str:
        """For progress bars."""
        return f"{self.task} {self.arm} {self.seed}"


class Stopped(Exception):
    """A run was interrupted; what was done is kept. `files` are pages of the runs that are finished."""

    def __init__(self, detail: str = "", files: Sequence[Path] = ()) -> None:
        super().__init__(detail)
        self.files = list(files)


def read(folder: Path, cell: Cell) -> dict[str, Any] | None:
    """A finished cell's result, or None; `RunFolderError` for a file that is damaged."""
    file = folder / f"{cell.name}.json"
    if not file.exists():
        return None
    try:
        result: dict[str, Any] = json.loads(file.read_text())
        [EpochRecord(**record) for record in result["history"]]
        result["status"], result["numbers"]["error"], result["identity"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunFolderError(
            f"{file} is no result of a run ({error}): remove it to run it again"
        ) from error
    return result


def train(
    folder: Path,
    cell: Cell,
    *,
    device: str = "auto",
    listener: Listener,
) -> dict[str, Any]:
    """Train a cell and keep its result; goes on from its checkpoint where it was stopped.

    Raises `Stopped` on Ctrl-C.
    """
    make_folder(folder)
    begun = folder / f"{cell.name}.unfinished"
    torch.manual_seed(cell.seed)
    model = create_model(
        cell.spec.model,
        classes=len(cell.data.classes),
        in_channels=cell.data.train.shape[0],
    )
    work = _train_sparse if cell.spec.sparse else _train
    try:
        result = work(folder, begun, cell, model, device, listener)
    except RunFolderError as error:
        if not begun.exists():
            raise
        raise RunFolderError(
            f"{error} (what is kept of this run lies in {begun}; without that folder it begins again)"
        ) from error
    save_text(folder / f"{cell.name}.json", json.dumps(result) + "\n")
    shutil.rmtree(begun, ignore_errors=True)
    return result


def _train(
    folder: Path,
    begun: Path,
    cell: Cell,
    model: nn.Module,
    device: str,
    listener: Listener,
) -> dict[str, Any]:
    settings = cell.settings.but(device=device)
    keeps = cell.scale != "smoke"  # minutes of work are not worth a checkpoint an epoch
    if keeps:
        make_folder(begun)
    result = fit(
        model,
        cell.data,
        alternation=alternation(cell.arm, settings.epochs),
        settings=settings,
        listener=listener,
        folder=begun if keeps else None,
        resume=resumable(begun),
        identity={"cell": cell.name},
    )
    numbers = {"error": result.error}
    if result.status is not Status.INTERRUPTED:
        numbers["mask_at_test"] = evaluate(
            model, cell.data.to(settings.torch_device()).test, rule=MASK_AT_TEST
        ).error
    return _result(cell, model, result, numbers, device)


def _train_sparse(
    folder: Path,
    begun: Path,
    cell: Cell,
    model: nn.Module,
    device: str,
    listener: Listener,
) -> dict[str, Any]:
    """The dense phase is an arm of its own; the masks' arms begin with its weights."""
    plan = cell.plan
    dense, sparse, again = plan.epochs
    weights = RunFolder(folder / f"{_dense(cell).name}.weights")
    if cell.arm == "dense":
        epochs = (dense, 0.0, 0.0)
    else:
        epochs = (0.0, sparse, again)
        if not _dense_weights(folder, cell, weights):
            diverged = _diverged(model, "in the dense phase")
            return _result(cell, model, diverged, {"error": float("nan")}, device)
        try:
            weights.load_model(model)
        except RunFolderError as error:
            raise RunFolderError(f"{error}: {_advice(folder, cell, weights)}") from error
    try:
        result = dense_sparse_dense(
            model,
            cell.data,
            mask=cell.arm if cell.arm != "dense" else "none",
            phases=replace(plan, epochs=epochs),
            settings=cell.settings.but(device=device),
            statistics=2048 if cell.scale != "smoke" else 64,
            listener=listener,
            folder=begun,
        )
    except DeadLayerError as error:  # this arm cannot be trained; the others can
        nothing = _diverged(model, f"before the sparse phase: {error}")
        return _result(cell, model, nothing, {"error": float("nan")}, device)
    if cell.arm == "dense" and result.status is Status.FINISHED:
        make_folder(weights.path)
        weights.save_model(model)
    numbers = {"error": result.error, "sparsity": float(result.sparse_sparsity)}
    units = [phase.units_on for phase in result.phases if phase.units_on is not None]
    if units:
        numbers["units_off"] = 1 - units[0]
    fitted = FitResult(
        status=result.status, detail=result.detail, model=model, history=result.history
    )
    return _result(cell, model, fitted, numbers, device)


def _diverged(model: nn.Module, detail: str) -> FitResult:
    """A run that could not begin, since an earlier phase left it nothing to begin with."""
    return FitResult(status=Status.DIVERGED, detail=detail, model=model, history=History())


def _dense_weights(folder: Path, cell: Cell, weights: RunFolder) -> bool:
    """Whether the dense phase has left weights; False where it diverged."""
    if weights.model_file.exists():
        return True
    dense = folder / f"{_dense(cell).name}.json"
    if dense.exists() and json.loads(dense.read_text())["status"] == "DIVERGED":
        return False
    raise RunFolderError(f"{weights.model_file} is missing: {_advice(folder, cell, weights)}")


def _advice(folder: Path, cell: Cell, weights: RunFolder) -> str:
    dense = folder / f"{_dense(cell).name}.json"
    return f"remove {weights.path} and {dense} to train the dense phase again"


def _dense(cell: Cell) -> Cell:
    """The cell whose weights a cell with masks begins with."""
    return replace(cell, arm="dense")


def _result(
    cell: Cell, model: nn.Module, result: FitResult, numbers: dict[str, float], device: str
) -> dict[str, Any]:
    if result.status is Status.INTERRUPTED:
        raise Stopped(result.detail)
    return {
        "identity": cell.identity,
        "seed": cell.seed,
        "device": str(Settings(device=device).torch_device()),
        "versions": versions(),
        "status": result.status.name,
        "detail": result.detail,
        "parameters": sum(p.numel() for p in model.parameters()),
        "numbers": {k: v if math.isfinite(v) else None for k, v in numbers.items()},
        "seconds": result.history.seconds,
        "history": [asdict(record) for record in result.history],
    }


def part_of(data: Data, train: int, test: int) -> Data:
    """A subset of both sets, always the same one, named as such in the note."""
    parts = []
    for source, count in ((data.train, train), (data.test, test)):
        if count >= len(source):
            parts.append(source)
            continue
        chosen = draw_some(count, len(source), seed=0)
        assert isinstance(source, Divisible)  # as all sources of `data.load` are
        parts.append(source.subset(chosen))
    note = f"a subset, {len(parts[0]):,} + {len(parts[1]):,} of {data.note}"
    return Data(data.name, parts[0], parts[1], data.classes, note)


def _plain(value: Any) -> Any:
    if callable(value):
        return repr(value) if " at 0x" not in repr(value) else value.__name__
    return value
