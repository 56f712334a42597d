"""`dense_sparse_dense`: train, prune and train on, then let the pruned weights return."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..alternation import Alternation, Live
from ..data import Data, ExampleSource, as_data
from ..errors import RunFolderError, SettingsError
from ..training import EpochRecord, History, Progress, Settings, Status, evaluate, fit
from ..training.files import read_tensors, save_tensors, save_text
from ..training.run import load_weights
from .layers import Masks, Sparsity, apply_masks, sparsity, weighted_layers
from .masked import Masked
from .masks import MASKS, WeightMask, some_examples
from .recipes import Recipe
from .statistics import estimate_statistics
from .units import Units

PHASES = ("dense", "sparse", "dense again")


@dataclass(frozen=True, kw_only=True)
class PhaseResult:
    """One phase. Errors are the live network's on the test set, in %.

    `error_before` is that of the weights which the phase found, `error_masked` the same after masks
    were set or released, `error_estimated` after batch norm's statistics were estimated anew (which
    is where training starts), `error` at the end. `sparsity` is the share of zero weights at the end,
    `by_layer` by module path; `units_on` the share of units that unit masks left on, else None.
    """

    name: str
    epochs: int
    lr: float
    error_before: float
    error_masked: float
    error_estimated: float
    error: float
    sparsity: float
    by_layer: dict[str, float]
    units_on: float | None
    status: Status
    history: History = field(repr=False)


@dataclass(frozen=True)
class DenseSparseDenseResult:
    """What `dense_sparse_dense` returns; `model` is the module that was given, a plain one."""

    status: Status
    model: nn.Module
    phases: list[PhaseResult]
    sparse_sparsity: Sparsity  # at the end of the sparse phase
    detail: str = ""

    @property
    def error(self) -> float:
        """Test error after the last phase, in %; NaN when there was none."""
        return self.phases[-1].error if self.phases else float("nan")

    @property
    def history(self) -> History:
        """All epochs, numbered through."""
        epochs = [record for phase in self.phases for record in phase.history]
        return History(
            EpochRecord(**(asdict(record) | {"epoch": number}))
            for number, record in enumerate(epochs, start=1)
        )


def dense_sparse_dense(
    model: nn.Module,
    data: object,
    *,
    mask: str | WeightMask | Units = "magnitude",
    phases: Recipe | None = None,
    settings: Settings | None = None,
    statistics: int = 2048,
    callback: Callable[[str, EpochRecord], None] | None = None,
    progress: Callable[[str, Progress], None] | None = None,
    folder: str | Path | None = None,
    **changes: Any,
) -> DenseSparseDenseResult:
    """Dense-sparse-dense training (Han et al. 2017; Table 8 of the paper), of `model`, in place.

    Three calls of `fit`: dense; then under masks of the weights, which are found once from the dense
    weights and applied again after every step; then dense again, where pruned weights start from zero.
    `mask` is a name of `MASKS` or an object such as `Magnitude(ratio=0.5)`; "none" is the control.
    `phases` are epochs and learning rates, `Recipe()` by default; a dense phase of 0 epochs starts from
    the weights as given. Batch size, weight decay and schedule are the recipe's unless `settings` or
    single settings by name say otherwise.

    Before and after every change of masks the network is evaluated, and batch norm's statistics are
    estimated anew from `statistics` training examples. `callback` and `progress` get the phase's name
    first. With a `folder`, finished phases and the epochs of the one under way are kept there, and the
    same call goes on from them. A phase that diverges or is interrupted ends the run with its status.

    Raises `SettingsError` for bad settings, an unknown mask, or layers that cannot be pruned, and what
    `fit` raises, before any training.
    """
    data = as_data(data)
    mask = _mask(mask)
    phases = phases or Recipe()
    own = {"batch_size": min(phases.batch_size, len(data.train)), "schedule": phases.schedule}
    own |= {"weight_decay": phases.weight_decay, "warm": 0.0}
    for name in ("epochs", "lr"):
        if name in changes:
            raise SettingsError(f"{name} belongs to the phases: phases=Recipe(epochs=..., lrs=...)")
    settings = settings.but(**changes) if settings else Settings().but(**(own | changes))
    weighted_layers(model)
    run = _Run(model, data, mask, settings, phases, statistics, callback, progress, folder)
    done: list[PhaseResult] = []
    sparse = Sparsity(0.0)
    sparse.by_layer = {}
    for number, (epochs, lr) in enumerate(zip(phases.whole(), phases.lrs, strict=True)):
        if epochs == 0:
            continue
        result, detail = run.phase(number, epochs, lr)
        done.append(result)
        if number == 1:
            sparse = Sparsity(result.sparsity)
            sparse.by_layer = result.by_layer
        if result.status is not Status.FINISHED:
            detail = f"in the {PHASES[number]} phase, {detail}"
            return DenseSparseDenseResult(result.status, model, done, sparse, detail)
    return DenseSparseDenseResult(Status.FINISHED, model, done, sparse)


def _mask(mask: str | WeightMask | Units) -> WeightMask | Units:
    if not isinstance(mask, str):
        return mask
    if mask not in MASKS:
        near = difflib.get_close_matches(mask, MASKS, 1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise SettingsError(f"mask is one of {', '.join(MASKS)}, not {mask!r}{hint}")
    return MASKS[mask]()


class _Run:
    """What lives as long as the three phases do."""

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        mask: WeightMask | Units,
        settings: Settings,
        phases: Recipe,
        statistics: int,
        callback: Callable[[str, EpochRecord], None] | None,
        progress: Callable[[str, Progress], None] | None,
        folder: str | Path | None,
    ) -> None:
        self.model, self.data, self.mask, self.settings = model, data, mask, settings
        self.statistics, self.callback, self.progress = statistics, callback, progress
        self.folder = Path(folder) if folder is not None else None
        shown = repr(mask)
        self.mask_name = type(mask).__name__ if " at 0x" in shown else shown
        model.to(settings.torch_device())
        if isinstance(mask, Units):  # what cannot be held refuses now, not after the dense phase
            mask.density(model, _probe(data.train, model, 1, settings.seed))
        if self.folder is not None:
            self._own(self.folder, phases)

    def _own(self, folder: Path, phases: Recipe) -> None:
        """Write what this run is into its folder, or compare with what is there."""
        plain = {k: v for k, v in asdict(self.settings).items() if not callable(v)}
        identity = {"data": self.data.name, "mask": self.mask_name, "settings": plain}
        identity = json.loads(json.dumps(identity | {"phases": asdict(phases)}))
        file = folder / "dense-sparse-dense.json"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            save_text(file, json.dumps(identity, indent=1) + "\n")
            return
        try:
            kept = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{file} cannot be read: {error}") from error
        for name, value in identity.items():
            if kept.get(name) != value:
                raise RunFolderError(
                    f"{folder} holds a run with another {name}: {kept.get(name)}, not {value}; "
                    "choose another folder"
                )

    def phase(self, number: int, epochs: int, lr: float) -> tuple[PhaseResult, str]:
        """Run one phase, or read what is kept of it."""
        name = PHASES[number]
        place = self.folder / f"{number + 1}-{name.replace(' ', '-')}" if self.folder else None
        if place is not None and (place / "phase.json").exists():
            return _read(place, self.model), ""
        settings = self.settings.but(epochs=epochs, lr=lr, seed=self.settings.seed + 7919 * number)
        seed = settings.seed
        kept = self._begun(place)
        if kept is None:
            before = evaluate(self.model, self.data.test).error
            masks: Masks = {}
            if number == 1 and not isinstance(self.mask, Units):
                masks = self.mask.find(self.model, self.data.train, seed=seed)
                apply_masks(self.model, masks)
            masked = evaluate(self.model, self.data.test).error if masks else before
            estimated = masked
            if number > 0 and estimate_statistics(
                self.model, self.data.train, examples=self.statistics, seed=seed
            ):
                estimated = evaluate(self.model, self.data.test).error
            looks = [before, masked, estimated]
            if place is not None:
                self._keep_beginning(place, masks, looks)
        else:
            masks, looks = kept
        alternation: Alternation = Live()
        if number == 1:
            alternation = self.mask if isinstance(self.mask, Units) else Masked(masks=masks)
        callback, progress = self.callback, self.progress
        resume = place is not None and (place / "checkpoint.safetensors").exists()
        result = fit(
            self.model,
            self.data,
            alternation=alternation,
            settings=settings,
            folder=place,
            resume=resume,
            identity={"phase": name, "epochs": epochs, "lr": lr, "mask": self.mask_name},
            callback=(lambda record: callback(name, record)) if callback else None,
            progress=(lambda where: progress(name, where)) if progress else None,
        )
        share = sparsity(self.model)
        on = None
        if number == 1 and isinstance(self.mask, Units):
            probe = _probe(self.data.train, self.model, settings.batch_size, seed)
            on = float(self.mask.density(self.model, probe))
        phase = PhaseResult(
            name=name,
            epochs=len(result.history),
            lr=lr,
            error_before=looks[0],
            error_masked=looks[1],
            error_estimated=looks[2],
            error=result.error,
            sparsity=float(share),
            by_layer=dict(share.by_layer),
            units_on=on,
            status=result.status,
            history=result.history,
        )
        if place is not None and result.status is Status.FINISHED:
            _write(place, phase, self.model)
        return phase, result.detail

    def _begun(self, place: Path | None) -> tuple[Masks, list[float]] | None:
        """Masks and evaluations of a phase that was begun before; None for one that was not."""
        if place is None or not (place / "begin.safetensors").exists():
            return None
        tensors, about = _tensors(place / "begin.safetensors")
        masks: Masks = {}
        weights = {}
        for name, tensor in tensors.items():
            part, _, key = name.partition(".")
            if part == "mask":
                masks[key] = tensor.bool()
            else:
                weights[key] = tensor
        load_weights(self.model, weights, place / "begin.safetensors")
        return masks, json.loads(about["errors"])

    def _keep_beginning(self, place: Path, masks: Masks, looks: list[float]) -> None:
        place.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"mask.{path}": keep.byte() for path, keep in masks.items()}
        save_tensors(place / "begin.safetensors", tensors, {"errors": json.dumps(looks)})


def _probe(source: ExampleSource, model: nn.Module, count: int, seed: int) -> Tensor:
    x, _ = source.batch(some_examples(source, count, seed))
    return x.to(next(model.parameters()).device)


def _tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        return read_tensors(path)
    except RunFolderError as error:
        raise RunFolderError(
            f"{error}; remove the folder {path.parent} to run its phase anew"
        ) from error


def _write(place: Path, phase: PhaseResult, model: nn.Module) -> None:
    """Keep a finished phase; what was needed to resume it goes."""
    save_tensors(place / "model.safetensors", model.state_dict(), {})
    plain = asdict(phase) | {
        "status": phase.status.name,
        "history": [asdict(record) for record in phase.history],
    }
    save_text(place / "phase.json", json.dumps(plain, indent=1) + "\n")
    for name in ("checkpoint.safetensors", "begin.safetensors"):
        (place / name).unlink(missing_ok=True)


def _read(place: Path, model: nn.Module) -> PhaseResult:
    try:
        plain = json.loads((place / "phase.json").read_text())
        history = History(EpochRecord(**record) for record in plain.pop("history"))
        result = PhaseResult(**plain | {"status": Status[plain["status"]], "history": history})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunFolderError(
            f"{place / 'phase.json'} is no record of a phase ({error}): remove the folder {place} to "
            "run it anew"
        ) from error
    weights, _ = _tensors(place / "model.safetensors")
    load_weights(model, weights, place / "model.safetensors")
    return result
