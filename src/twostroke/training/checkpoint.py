"""Checkpoints between epochs: safetensors and JSON, written whole or not at all.

Everything random in a run follows from its seed and the epoch's number, so a checkpoint holds no
generator states: a run that goes on from one computes what it would have computed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .._files import replacing, sweep_partials
from ..alternation import Alternator
from ..errors import RunFolderError, SupportFileError
from ..support import Support
from .history import EpochRecord, History
from .visits import Visits

_FORMAT = "twostroke-checkpoint"
_VERSION = 2  # 2: checksums, and supports in a store's file
_CHECKSUM = "twostroke-checksum"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write safetensors and a checksum of all of it to a file beside, then put it in place.

    Raises `RunFolderError` where that fails.
    """
    plain = {name: t.detach().contiguous().cpu().clone() for name, t in tensors.items()}
    metadata = metadata | {_CHECKSUM: str(checksum(plain, metadata))}
    try:
        with replacing(path) as partial:
            save_file(plain, partial, metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise RunFolderError(
            f"{path} could not be written ({error}); what was there before is untouched. Is the disk "
            "full or the folder read-only?"
        ) from error


def read_tensors(
    path: Path, *, unchecked: bool = False
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata that `save_tensors` wrote; `RunFolderError` where a bit of them differs.

    `unchecked` also takes a file without a checksum, from another program or an earlier version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        if isinstance(error, FileNotFoundError):
            raise RunFolderError(f"{path}: there is no such file") from None
        raise RunFolderError(
            f"{path} is not a file of this program, or damaged: {error}"
        ) from error
    told = metadata.pop(_CHECKSUM, None)
    if told is None and not unchecked:
        raise RunFolderError(
            f"{path} has no checksum: an earlier version wrote it, or it is damaged"
        )
    if told is not None and told != str(checksum(tensors, metadata)):
        raise RunFolderError(f"{path} is damaged: what it holds does not match its checksum")
    return tensors, metadata


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """CRC-32 of names, types, shapes and values, in the order of the names."""
    value = zlib.crc32(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        plain = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
        value = zlib.crc32(plain.data, value)
    return value


class Resumable(Protocol):
    """What a run must keep to go on."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    alternator: Alternator
    average: nn.Module | None
    visits: Visits
    taken: int


class Checkpoint:
    """The resumable state of a run: `checkpoint.safetensors`, and a file of supports for a round.

    Supports in memory are copied, to `support-N.safetensors`; a store's own file is referred to.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "checkpoint.safetensors"
        self._copied: tuple[int, int] | None = None  # round and checksum of the copied supports

    def _support(self, round_: object) -> Path:
        return self.file.with_name(f"support-{round_}.safetensors")

    def save(self, run: Resumable, history: History, identity: Mapping[str, Any]) -> None:
        """Keep the state after the last epoch of `history`; `identity` must be equal at resume."""
        values, support = run.alternator.state()
        parts = {"model": run.model.state_dict(), "alternation": run.alternator.tensors()}
        if run.average is not None:
            parts["average"] = run.average.state_dict()
        if run.visits.kind is not None:
            parts["visits"] = {"losses": run.visits.losses}
            if run.alternator.example_drift is not None:
                parts["visits"]["drift"] = run.alternator.example_drift
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
                # functions, as LambdaLR has them, are made anew from the settings
                k: v
                for k, v in run.scheduler.state_dict().items()
                if not _has_function(v)
            },
            "alternation": values,
        }
        keep: Path | None = None
        if support is not None:
            # its own file, a name a round: the one before stays until the checkpoint is in place
            round_ = run.alternator.round
            keep = self._support(round_)
            if self._copied is None or self._copied[0] != round_:
                support = support.to("cpu")
                _save_support(support, keep)
                self._copied = round_, _checksum(support)
            document["support"] = self._copied[1]
        save_tensors(self.file, tensors, {_FORMAT: json.dumps(document)})
        run.alternator.saved()
        for old in self.file.parent.glob(self._support("*").name):
            if old != keep:
                old.unlink(missing_ok=True)

    def epochs(self) -> int:
        """How many epochs the checkpoint is after; 0 where there is none, or none to make sense of."""
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
        if not self.file.exists():
            raise RunFolderError(f"{self.file}: there is no checkpoint to go on from")
        sweep_partials(self.file.parent)
        tensors, metadata = read_tensors(self.file)
        try:
            document = json.loads(metadata[_FORMAT])
            if document["version"] != _VERSION:
                raise RunFolderError(
                    f"{self.file}: checkpoint format {document['version']!r}, this version reads "
                    f"{_VERSION}"
                )
            _compare(self.file, document["identity"], json.loads(json.dumps(dict(identity))))
            history = History(EpochRecord(**record) for record in document["history"])
            groups, plain = document["optimizer"]["groups"], document["optimizer"]["plain"]
            values, schedule = document["alternation"], document["scheduler"]
            support = None
            if "support" in document:
                support = Support.load(self._support(values["round"]))
                if _checksum(support) != document["support"]:
                    raise RunFolderError(
                        f"{self._support(values['round'])} does not hold the masks that the checkpoint "
                        "refers to: it is damaged, or of another run"
                    )
        except RunFolderError:
            raise
        except SupportFileError as error:
            raise RunFolderError(str(error)) from error
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise RunFolderError(f"{self.file} is not a checkpoint, or damaged: {error}") from error
        parts: dict[str, dict[str, Tensor]] = {
            name: {} for name in ("model", "alternation", "average", "visits")
        }
        state: dict[int, dict[str, Any]] = {}
        for name, value in plain.items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        for name, tensor in tensors.items():
            part, _, key = name.partition(".")
            if part == "optimizer":
                index, _, key = key.partition(".")
                state.setdefault(int(index), {})[key] = tensor
            else:
                parts[part][key] = tensor
        try:  # first, because a store's file is verified here
            run.alternator.restore(values, support, parts["alternation"])
        except SupportFileError as error:
            raise RunFolderError(
                f"{error}. Weights and optimiser are whole, in {self.file.name}, but this round cannot be "
                "gone on with: put the file back from a copy"
            ) from error
        run.model.load_state_dict(parts["model"])
        run.optimizer.load_state_dict({"state": state, "param_groups": groups})
        run.scheduler.load_state_dict(run.scheduler.state_dict() | schedule)
        if run.average is not None:
            run.average.load_state_dict(parts["average"])
        if run.visits.kind is not None:
            run.visits.losses = parts["visits"]["losses"]
            run.alternator.example_drift = parts["visits"].get("drift")
        run.taken = history[-1].steps
        return history


def _compare(file: Path, saved: dict[str, Any], now: dict[str, Any]) -> None:
    for name in saved.keys() | now.keys():
        if saved.get(name) != now.get(name):
            raise RunFolderError(
                f"{file} is of a run with {name} = {saved.get(name)!r}, not {now.get(name)!r}: resume "
                "with the settings that it was started with"
            )


def _has_function(value: Any) -> bool:
    values = value if isinstance(value, list | tuple) else [value]
    return any(callable(v) or v is None for v in values)


def _save_support(support: Support, path: Path) -> None:
    try:
        support.save(path)
    except (OSError, SafetensorError) as error:
        raise RunFolderError(
            f"{path} could not be written ({error}); the last checkpoint is untouched. Is the disk full "
            "or the folder read-only?"
        ) from error


def _checksum(support: Support) -> int:
    sites = {"sites": json.dumps([site.to_json() for site in support.sites])}
    return checksum({"rows": support.rows}, sites)


def good_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights, to fall back on."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of everything random in an epoch."""
    return int(
        torch.randint(
            2**62, (1,), generator=torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        )
    )
