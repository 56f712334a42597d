"""What is kept of a run in its folder: what it is, how a phase began, and what came of it.

`dense-sparse-dense.json` says what the run is. Each phase has a folder: `begin.safetensors` holds the
weights and masks that it began with, and `fit` its checkpoint beside it; both go when `phase.json` and
`model.safetensors` are there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from ..alternation.fingerprint import data_fingerprint
from ..data import ExampleSource, check_replayable
from ..errors import NotReplayableError, RunFolderError
from ..outcome import Status
from ..runs import (
    CHECKPOINT,
    WITHIN,
    EpochRecord,
    History,
    load_weights,
    make_folder,
    read_weights,
    save_text,
    save_weights,
)
from .layers import Masks
from .result import PhaseResult

_MASK = "mask of "  # before the path of a layer, beside the names of the weights


def begun(folder: Path) -> bool:
    """Whether any phase has left something to go on from."""
    return any(any(folder.glob(f"*/{name}")) for name in ("begin.safetensors", "phase.json"))


def own(folder: Path, identity: Mapping[str, Any]) -> None:
    """Write what this run is into its folder; `RunFolderError` if it holds another run."""
    identity = json.loads(json.dumps(identity))
    file = folder / "dense-sparse-dense.json"
    if not file.exists():
        make_folder(folder)
        save_text(file, json.dumps(identity, indent=1) + "\n")
        return
    try:
        kept = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file} cannot be read: {error}") from error
    for name, value in identity.items():
        if name not in kept:
            raise RunFolderError(
                f"{folder} holds a run of an earlier version, which did not note its {name}; choose "
                "another folder"
            )
        if kept[name] != value:
            hashed = name in ("examples", "model")
            told = "" if hashed else f": {kept[name]}, not {value}"
            raise RunFolderError(
                f"{folder} holds a run with another {name}{told}; choose another folder"
            )


def examples_of(source: ExampleSource) -> str:
    """A fingerprint of a data set, or its size where its examples differ from look to look."""
    try:
        check_replayable(source)
    except NotReplayableError:
        return f"{len(source)} of {tuple(source.shape)}"
    return data_fingerprint(source, 0, whole=True)


def write_beginning(place: Path, model: nn.Module, masks: Masks, looks: list[float]) -> None:
    """Keep the weights, masks and evaluations that a phase begins with."""
    make_folder(place)
    state = model.state_dict()
    state.update({f"{_MASK}{path}": keep.byte() for path, keep in masks.items()})
    save_weights(place / "begin.safetensors", state, {"errors": json.dumps(looks)})


def read_beginning(place: Path | None, model: nn.Module) -> tuple[Masks, list[float]] | None:
    """Masks and evaluations of a phase that was begun before, with its weights put into `model`."""
    if place is None or not (place / "begin.safetensors").exists():
        return None
    state, about = _weights(place / "begin.safetensors")
    masks = {
        name.removeprefix(_MASK): state.pop(name).bool()
        for name in list(state)
        if name.startswith(_MASK)
    }
    load_weights(model, state, place / "begin.safetensors")
    return masks, json.loads(about["errors"])


def write_phase(place: Path, phase: PhaseResult, model: nn.Module) -> None:
    """Keep a finished phase; what was needed to resume it goes."""
    save_weights(place / "model.safetensors", model.state_dict(), {})
    plain = asdict(phase) | {
        "status": phase.status.name,
        "history": [asdict(record) for record in phase.history],
    }
    save_text(place / "phase.json", json.dumps(plain, indent=1) + "\n")
    for name in (CHECKPOINT, WITHIN, "begin.safetensors"):
        (place / name).unlink(missing_ok=True)


def read_phase(place: Path | None, model: nn.Module) -> PhaseResult | None:
    """A finished phase, with its weights put into `model`; None for one that is not finished."""
    if place is None or not (place / "phase.json").exists():
        return None
    try:
        plain = json.loads((place / "phase.json").read_text())
        history = History(EpochRecord(**record) for record in plain.pop("history"))
        result = PhaseResult(**plain | {"status": Status[plain["status"]], "history": history})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunFolderError(
            f"{place / 'phase.json'} is no record of a phase ({error}): remove the folder {place} to "
            "run it again"
        ) from error
    weights, _ = _weights(place / "model.safetensors")
    load_weights(model, weights, place / "model.safetensors")
    return result


def _weights(path: Path) -> tuple[MutableMapping[str, Any], dict[str, str]]:
    try:
        return read_weights(path)
    except RunFolderError as error:
        raise RunFolderError(
            f"{error}; remove the folder {path.parent} to run its phase again"
        ) from error
