"""`dense_sparse_dense`: train, prune and train on, then let the pruned weights return."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .._generators import generators_kept
from ..alternation import Alternation, Live
from ..alternation.fingerprint import model_fingerprint
from ..alternation.statistics import estimate_statistics
from ..data import Data, ExampleSource, as_data
from ..errors import SettingsError, unknown
from ..outcome import Status
from ..processes import launched
from ..runs import alone, resumable
from ..runs.changes import FREE
from ..support.modes import frozen, train_but
from ..training import Listener, Settings, evaluate, fit
from ..training.checks import check_batch, check_output
from .kept import examples_of, own, read_beginning, read_phase, write_beginning, write_phase
from .layers import (
    Masks,
    Sparsity,
    apply_masks,
    prunable,
    sparsity,
    unknown_weights,
    weighted_layers,
)
from .masked import Masked, in_one_process
from .masks import MASKS, NoMask, WeightMask, some_examples
from .recipes import Recipe
from .result import DenseSparseDenseResult, PhaseResult
from .units import Units

PHASES = ("dense", "sparse", "dense again")


def dense_sparse_dense(
    model: nn.Module,
    data: object,
    *,
    mask: str | WeightMask | Units = "magnitude",
    phases: Recipe | None = None,
    settings: Settings | None = None,
    statistics: int = 2048,
    listener: Listener | None = None,
    folder: str | Path | None = None,
    **changes: Any,
) -> DenseSparseDenseResult:
    """Dense-sparse-dense training (Han et al. 2017; Table 8 of the paper), of `model`, in place;
    it is left in evaluation mode.

    Three calls of `fit`: dense; then under masks of the weights, which are found once from the dense
    weights and applied again after every step; then dense again, where pruned weights start from zero.
    `mask` is a name of `MASKS` or an object such as `Magnitude(ratio=0.5)`; "none" is the control.
    `phases` are epochs and learning rates, `Recipe()` by default; a dense phase of 0 epochs starts from
    the weights as given. Batch size, weight decay and schedule are the recipe's unless `settings` or
    single settings by name say otherwise.

    Before and after every change of masks the network is evaluated, and batch norm's statistics are
    estimated again from `statistics` training examples. The `listener` hears of each phase by `part`. With a
    `folder`, finished phases and the epochs of the one under way are kept there, and the same call goes on
    from them. A phase that diverges or is interrupted ends the run with its status.

    Ctrl-C ends the run with status INTERRUPTED, within training or between.

    Raises before any training `SettingsError` for bad settings, a model that does not fit the data, an
    unknown mask, or layers that cannot be pruned, and what `fit` raises. That a mask would leave
    nothing of a layer shows when it is found: after the dense phase, which a `folder` keeps.
    """
    in_one_process(launched())
    data = as_data(data)
    mask = _mask(mask)
    phases = Recipe() if phases is None else phases
    if not isinstance(phases, Recipe):
        raise SettingsError(
            f"phases is a Recipe, such as Recipe(epochs=(2, 1, 1)) or recipe('resnet18'), not {phases!r}"
        )
    own: dict[str, Any] = {"batch_size": phases.batch_size, "schedule": phases.schedule}
    own |= {"weight_decay": phases.weight_decay, "warmup_share": 0.0}
    for name in ("epochs", "lr"):
        if name in changes:
            raise SettingsError(f"{name} belongs to the phases: phases=Recipe(epochs=..., lrs=...)")
    settings = settings.but(**changes) if settings else Settings().but(**(own | changes))
    if statistics < 1:
        raise SettingsError(f"statistics is a number of examples, 1 or more, not {statistics}")
    weighted_layers(model)
    check_batch(settings.batch_size, len(data.train))
    done: list[PhaseResult] = []
    sparse = Sparsity(0.0)
    sparse.by_layer = {}
    status, detail = Status.FINISHED, ""
    with generators_kept(settings.torch_device()), ExitStack() as stack:
        run = _Run(model, data, mask, settings, phases, statistics, listener or Listener(), folder)
        if run.folder is not None:
            stack.enter_context(alone(run.folder))
        for number, (epochs, lr) in enumerate(zip(phases.whole(), phases.lrs, strict=True)):
            if epochs == 0:
                continue
            try:
                result, detail = run.phase(number, epochs, lr)
            except KeyboardInterrupt:  # in training `fit` takes it
                status, detail = (
                    Status.INTERRUPTED,
                    f"in the {PHASES[number]} phase, outside training",
                )
                break
            done.append(result)
            status = result.status
            if number == 1:
                sparse = Sparsity(result.sparsity)
                sparse.by_layer = result.by_layer
            if status is not Status.FINISHED:
                detail = f"in the {PHASES[number]} phase, {detail}"
                break
    return DenseSparseDenseResult(
        status=status,
        detail=detail,
        notes=run.notes,
        model=model.eval(),
        phases=done,
        sparse_sparsity=sparse,
    )


def _mask(mask: str | WeightMask | Units) -> WeightMask | Units:
    if isinstance(mask, Units) or (
        not isinstance(mask, str | type) and callable(getattr(mask, "find", None))
    ):
        return mask
    if not isinstance(mask, str):
        raise SettingsError(
            f"mask is one of {', '.join(MASKS)}, or an object that finds masks, such as "
            f"Magnitude(ratio=0.3), not {mask!r}"
        )
    if mask not in MASKS:
        raise SettingsError(unknown("mask", mask, MASKS))
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
        listener: Listener,
        folder: str | Path | None,
    ) -> None:
        self.model, self.data, self.mask, self.settings = model, data, mask, settings
        self.statistics, self.listener = statistics, listener
        self.folder = Path(folder) if folder is not None else None
        self.notes: list[str] = []
        shown = repr(mask)
        self.mask_name = type(mask).__name__ if " at 0x" in shown else shown
        model.to(settings.torch_device())
        check_output(model, data.train, F.cross_entropy, settings.seed)
        self.still = frozen(model)  # `fit` leaves the model in evaluation mode
        self.prunable: list[str] = []
        if isinstance(mask, Units):  # what cannot be held refuses now, not after the dense phase
            mask.density(model, _probe(data.train, model, 1, settings.seed))
        elif not isinstance(mask, NoMask):
            self.prunable = list(prunable(model))
            self._note("no mask reaches", unknown_weights(model))
        if self.folder is not None:
            own(self.folder, self._identity(phases))

    def _identity(self, phases: Recipe) -> dict[str, Any]:
        """What must be the same for a run to go on."""
        return {
            "data": self.data.name,
            "model": model_fingerprint(self.model),
            "mask": self.mask_name,
            "settings": {
                name: value
                for name, value in asdict(self.settings).items()
                if not callable(value) and name not in FREE
            },
            "phases": asdict(phases),
            "statistics": self.statistics,
            "examples": [examples_of(part) for part in (self.data.train, self.data.test)],
        }

    def _note(self, what: str, names: list[str]) -> None:
        """Tell that weights stay dense, if there are any; the first few by name."""
        if names:
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            self.notes.append(f"{what} {', '.join(names[:4])}{more}: dense in every phase")
            self.listener.note(self.notes[-1])

    def _place(self, number: int) -> Path | None:
        name = PHASES[number].replace(" ", "-")
        return self.folder / f"{number + 1}-{name}" if self.folder is not None else None

    def _prune(self, mask: WeightMask, seed: int) -> Masks:
        """Find the masks and apply them."""
        try:
            masks = mask.find(self.model, self.data.train, seed=seed)
            apply_masks(self.model, masks)
        except SettingsError as error:
            dense = self._place(0)
            if dense is None or not (dense / "phase.json").exists():
                raise
            raise SettingsError(
                f"{error}. The dense phase is not lost: `twostroke dsd --weights {dense}` begins with it"
            ) from error
        return masks

    def phase(self, number: int, epochs: int, lr: float) -> tuple[PhaseResult, str]:
        """Run one phase, or read what is kept of it."""
        name = PHASES[number]
        place = self._place(number)
        if (finished := read_phase(place, self.model)) is not None:
            return finished, ""
        train_but(self.model, self.still)
        settings = self.settings.but(epochs=epochs, lr=lr, seed=self.settings.seed + 7919 * number)
        seed = settings.seed
        kept = read_beginning(place, self.model)
        if kept is None:
            before = evaluate(self.model, self.data.test).error
            masks: Masks = {}
            if number == 1 and not isinstance(self.mask, Units):
                masks = self._prune(self.mask, seed)
            masked = evaluate(self.model, self.data.test).error if masks else before
            estimated = masked
            if number > 0 and estimate_statistics(
                self.model, self.data.train, examples=self.statistics, seed=seed, view=0
            ):
                estimated = evaluate(self.model, self.data.test).error
            looks = [before, masked, estimated]
            if place is not None:
                write_beginning(place, self.model, masks, looks)
        else:
            masks, looks = kept
        if number == 1 and not isinstance(self.mask, NoMask | Units):
            never = [path for path in self.prunable if path not in masks]
            self._note("no mask was found for", never)
        alternation: Alternation = Live()
        if number == 1:
            alternation = self.mask if isinstance(self.mask, Units) else Masked(masks=masks)
        self.listener.part(name)
        resume = place is not None and resumable(place)
        result = fit(
            self.model,
            self.data,
            alternation=alternation,
            settings=settings,
            folder=place,
            resume=resume,
            identity={"phase": name, "epochs": epochs, "lr": lr, "mask": self.mask_name},
            listener=self.listener,
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
            write_phase(place, phase, self.model)
        return phase, result.detail


def _probe(source: ExampleSource, model: nn.Module, count: int, seed: int) -> Tensor:
    x, _ = source.batch(some_examples(source, count, seed))
    return x.to(next(model.parameters()).device)
