"""`reproduce`: train what a table or figure needs, cell by cell, and write it up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .._generators import generators_kept
from ..alternation.fingerprint import data_fingerprint
from ..data import Data, default_root, load, preprocess
from ..errors import DataError, RunFolderError, SettingsError, UnknownNameError, unknown
from ..training import Listener
from ..training.settings import Precision
from . import cells, render
from .cells import Cell, Stopped
from .published import EXPERIMENTS, Experiment
from .tasks import PUBLISHED, SCALES, TASKS, trains

SEEDS = {"smoke": 1, "short": 3, "full": 5}


class Watcher(Listener):
    """A listener that also hears of cells; `part`, `step` and `epoch` are those of the cell under way."""

    def begin(self, number: int, count: int, cell: Cell, kept: bool, left: int) -> None:
        """Cell `number` of `count` (from 1) begins, or is `kept` from before; `left` are to be trained."""

    def end(self, result: dict[str, Any]) -> None:
        """The cell is done."""


@dataclass(frozen=True)
class _Examples:
    """The data of a task, what augments them, and a fingerprint of them before preprocessing."""

    data: Data
    augmentation: str
    fingerprint: str


@dataclass(frozen=True)
class Reproduction:
    """What was written, and the numbers behind it."""

    files: list[Path]
    results: dict[tuple[str, str], list[dict[str, Any]]]


@generators_kept()
def reproduce(
    name: str,
    *,
    out: str | Path,
    scale: str = "smoke",
    seeds: int | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    channels_last: bool = False,
    data: Mapping[str, str] | str | None = None,
    data_root: Path | None = None,
    only: Sequence[str] = (),
    watcher: Watcher | None = None,
) -> Reproduction:
    """Reproduce a table or a figure of the paper by `name` ("table2" to "table8", "figure1", "figure3").

    `scale` is "full", the published schedule; "short", a fifth of its epochs; "smoke", a few epochs
    on a subset. Each arm is trained with `seeds` seeds, by default 1 (smoke), 3 or 5. `precision` and
    `channels_last` are as in `Settings`; the pages name them. Finished cells lie in `out`/cells, shared
    by all tables; the same call goes on where it was stopped. Every arm has its first seed before any
    has its second, and a run that is stopped writes pages of what is finished.

    `data` takes another data set instead of the published one, for all tasks or by the published
    name ({"mnist": "mnist-12k"}); every table says so. Nothing is replaced unasked. `only` keeps the tasks
    whose name begins with one of these.

    Raises:
        UnknownNameError: no such experiment, data set or task.
        SettingsError: a bad scale or number of seeds.
        DataError: a data set is not there and cannot be downloaded; before any training.
        RunFolderError: `out` has a page of this name at another scale, which would be overwritten.
        Stopped: Ctrl-C; `files` are the pages of what is finished.
    """
    watcher = watcher or Watcher()
    experiment = _experiment(name, only)
    if scale not in SCALES:
        raise SettingsError(f"scale is one of {', '.join(SCALES)}, not {scale!r}")
    seeds = SEEDS[scale] if seeds is None else seeds
    if seeds < 1:
        raise SettingsError(f"seeds is a number of runs an arm, 1 or more, not {seeds}")
    _refuse_other_scale(Path(out), name, scale)
    sets = _load(experiment, scale, _stand_ins(experiment, data), data_root)
    plan = [
        Cell(
            task=task,
            arm=arm,
            seed=seed,
            scale=scale,
            data=sets[task].data,
            augmentation=sets[task].augmentation,
            examples=sets[task].fingerprint,
            spec=TASKS[task],
            precision=precision,
            channels_last=channels_last,
        )
        for seed in range(seeds)
        for task, arm in experiment.cells
        if trains(arm, scale)
    ]
    folder = Path(out) / "cells"
    known = [cells.read(folder, cell) for cell in plan]

    def write() -> Reproduction:
        results: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for cell, result in zip(plan, known, strict=True):
            if result is not None:
                results.setdefault((cell.task, cell.arm), []).append(result)
        files = render.write(
            Path(out),
            name,
            experiment,
            scale,
            results,
            notes={task: _note(task, some) for task, some in sets.items()},
            remarks={task: _remark(task, some.data) for task, some in sets.items()},
            left_out=[task for task in EXPERIMENTS[name].tasks if task not in sets],
            planned=len(plan),
        )
        return Reproduction(files, results)

    try:
        for index, cell in enumerate(plan):
            kept = known[index]
            left = sum(result is None for result in known)
            watcher.begin(index + 1, len(plan), cell, kept is not None, left)
            result = kept or cells.train(folder, cell, device=device, listener=watcher)
            known[index] = result
            watcher.end(result)
    except (Stopped, KeyboardInterrupt) as stop:
        raise Stopped(str(stop), write().files if any(known) else []) from stop
    return write()


def _refuse_other_scale(out: Path, name: str, scale: str) -> None:
    """Raise `RunFolderError` where a finished page would be overwritten by one of another scale."""
    page = out / f"{name}.json"
    try:
        there = json.loads(page.read_text()).get("scale", scale)
    except (OSError, ValueError, AttributeError):  # none, or none that says
        return
    if there != scale:
        raise RunFolderError(
            f"{page} is of scale {there}, and this run, of scale {scale}, would overwrite it: choose "
            "another --out"
        )


def _experiment(name: str, only: Sequence[str]) -> Experiment:
    if name not in EXPERIMENTS:
        raise UnknownNameError(unknown("experiment", name, EXPERIMENTS))
    experiment = EXPERIMENTS[name]
    if not only:
        return experiment
    for start in only:
        if not any(_begins(task, start) for task in experiment.tasks):
            raise UnknownNameError(
                f"{name} has no task that begins with {start!r}: there are "
                f"{', '.join(experiment.tasks)}"
            )
    kept = tuple(
        line
        for line in experiment.lines
        if not line.task or any(_begins(line.task, start) for start in only)
    )
    return replace(experiment, lines=kept)


def _begins(task: str, start: str) -> bool:
    """Whether a task's name begins with these parts of it, as "cifar10" and not "cifar100" does."""
    return f"{task}-".startswith(f"{start}-")


def _stand_ins(experiment: Experiment, data: Mapping[str, str] | str | None) -> dict[str, str]:
    """What to load for each published data set."""
    published = list(dict.fromkeys(TASKS[task].dataset for task in experiment.tasks))
    if data is None:
        return {name: name for name in published}
    if isinstance(data, str):
        return dict.fromkeys(published, data)
    for name in data:
        if name not in published:
            raise UnknownNameError(
                f"this experiment has no data set {name!r} to replace: it has {', '.join(published)}"
            )
    return {name: data.get(name, name) for name in published}


def _load(
    experiment: Experiment, scale: str, names: dict[str, str], root: Path | None
) -> dict[str, _Examples]:
    """Data of every task, before anything is trained; equal ones are loaded once."""
    loaded: dict[tuple[str, str], Data] = {}
    found: dict[str, _Examples] = {}
    ready: dict[tuple[object, ...], _Examples] = {}
    cache = (root or default_root()) / "preprocessed"
    for task in experiment.tasks:
        spec = TASKS[task]
        name = names[spec.dataset]
        augmentation = spec.augmentation
        if augmentation == "resized-crop" and name != "imagenet":
            augmentation = "flip-shift"
        key = (name, augmentation)
        if key not in loaded:
            try:
                loaded[key] = load(
                    name, root=root, augmentation=None if augmentation == "none" else augmentation
                )
            except DataError as error:
                if name != spec.dataset:  # named by whoever asks
                    raise
                raise DataError(
                    f"{error}\nNothing stands in for it unasked. To use other data, name it: --data "
                    f"{spec.dataset}={_suggestion(spec.dataset)}; the tables will say so. --only leaves "
                    "tasks out"
                ) from error
        smoke = spec.smoke if scale == "smoke" else None
        done = (*key, spec.preprocess, smoke)
        if done not in ready:
            some = cells.part_of(loaded[key], *smoke) if smoke else loaded[key]
            parts = some.train, some.test
            told = " ".join(data_fingerprint(part, 0, whole=True) for part in parts)
            ready[done] = _Examples(
                preprocess(some, spec.preprocess, cache=cache), augmentation, told
            )
        found[task] = ready[done]
    return found


def _suggestion(dataset: str) -> str:
    if dataset == "mnist":
        return "mnist-12k"
    return "folder:PATH" if dataset == "imagenet" else "npz:PATH"


def _note(task: str, some: _Examples) -> str:
    """What the data of a task really are."""
    spec, data = TASKS[task], some.data
    note = data.note
    if some.augmentation != spec.augmentation:
        note += f", augmented by {some.augmentation} instead of {spec.augmentation}"
    if data.name == spec.dataset:
        return note
    kind, colon, path = data.name.partition(":")
    shown = f"{kind}:{Path(path).name}" if colon else data.name
    return f"{note} ({shown}, instead of {spec.dataset})"


def _remark(task: str, data: Data) -> str:
    """ "stand-in" or "subset" where the data are not those of the paper, or not all of them."""
    published = TASKS[task].dataset
    if data.name != published:
        return "stand-in"
    found = len(data.train), len(data.test), len(data.classes)
    return "" if found == PUBLISHED[published] else "subset"
