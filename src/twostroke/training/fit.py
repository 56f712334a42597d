"""The driver: `fit` trains a model by any kind of alternation, or by none, in one and the same loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..alternation import Alternation, Alternator, Live, Phase
from ..data import Data, as_data
from ..errors import SettingsError
from ..support import recording
from ..support.modes import evaluating
from .checkpoint import Checkpoint, epoch_seed, good_weights
from .evaluate import Loss, evaluate
from .history import EpochRecord, FitResult, History, Status
from .settings import Settings


@dataclass(frozen=True)
class Progress:
    """Where a run is: `step` of `steps` in `epoch` of `epochs` (all but `step` counted from 0)."""

    epoch: int
    epochs: int
    step: int
    steps: int
    phase: Phase


class _Diverged(Exception):
    pass


def fit(
    model: nn.Module,
    data: object,
    *,
    alternation: Alternation | None = None,
    settings: Settings | None = None,
    loss: Loss = F.cross_entropy,
    callback: Callable[[EpochRecord], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    identity: Mapping[str, Any] | None = None,
    **changes: Any,
) -> FitResult:
    """Train `model`, in place, and say how it went; it is left in evaluation mode.

    `data` is a `Data`, `(x, y)` or `(x, y, x_test, y_test)` tensors, or a pair of map-style data sets.
    `alternation` is `InstanceWise(...)`, `BatchWise(...)` or None for ordinary training. `settings`
    say how to train; single ones may be given by name: `fit(model, data, epochs=5, lr=0.2)`.

    `callback` receives an `EpochRecord` after each epoch, `progress` a `Progress` after each step.
    With a `folder`, a checkpoint is written there after each epoch, and `resume=True` goes on from it,
    exactly (on a CPU); `identity` is whatever must be equal for that to make sense.

    Ctrl-C ends the run after the step under way with status INTERRUPTED. A loss that is undefined, or
    has grown to more than five times its first value (or log(classes), which is chance, if that is
    more), ends it with DIVERGED and the weights of the last good epoch. Bad settings, data, or a model
    that cannot be held raise before any training: `SettingsError`, `DataError`, `UnholdableError`.
    """
    settings = (settings or Settings()).but(**changes)
    run = _Run(model, as_data(data), alternation or Live(), settings, loss, progress)
    checkpoint = Checkpoint(Path(folder)) if folder is not None else None
    who = dict(identity or {})
    history = History()
    if resume:
        if checkpoint is None:
            raise SettingsError("resume=True needs the folder that holds the checkpoint")
        history = checkpoint.load(run, who)
    status, detail = Status.FINISHED, ""
    good = good_weights(model)
    try:
        for epoch in range(len(history), settings.epochs):
            record = run.epoch(epoch)
            history.append(record)
            if checkpoint is not None:
                checkpoint.save(run, history, who)
            if callback is not None:
                callback(record)
            if settings.target_error is not None and record.error <= settings.target_error:
                status = Status.TARGET
                detail = f"{record.error:.2f} % in epoch {epoch + 1}"
                break
            good = good_weights(model)
    except _Diverged as error:
        model.load_state_dict(good)
        status, detail = Status.DIVERGED, str(error)
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
        detail = f"in epoch {len(history) + 1} of {settings.epochs}"
    return FitResult(status, model.eval(), history, detail)


class _Run:
    """One run: everything that lives as long as the training does."""

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        alternation: Alternation,
        settings: Settings,
        loss: Loss,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.settings, self.loss, self.progress = settings, loss, progress
        examples = len(data.train)
        if settings.batch_size > examples:
            raise SettingsError(
                f"a batch of {settings.batch_size} is larger than the {examples} training examples: "
                f"set batch_size to {examples} or less"
            )
        if not any(p.requires_grad for p in model.parameters()):
            raise SettingsError("the model has no parameter to train")
        self.device = settings.torch_device()
        self.model = model.to(self.device)
        if settings.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.train, self.test = (_on_device(s, self.device) for s in (data.train, data.test))
        self._try_out()
        self.steps = math.ceil(examples / settings.batch_size)
        self.optimizer = settings.make_optimizer(p for p in model.parameters() if p.requires_grad)
        self.scheduler = settings.make_scheduler(self.optimizer, self.steps * settings.epochs)
        self.alternator: Alternator = alternation.start(
            model, self.train, seed=settings.seed, optimizer=self.optimizer
        )
        self.alternator.autocast = self._cast
        self.average: nn.Module | None = None
        if settings.average is not None:
            ema = get_ema_multi_avg_fn(settings.average)
            self.average = AveragedModel(model, multi_avg_fn=ema, use_buffers=True)
        draw = torch.Generator().manual_seed(settings.seed)
        self.probe = torch.randperm(examples, generator=draw)[: settings.probe].sort().values
        first = evaluate(
            self.model, self.train, loss=loss, indices=self.probe, view=0, seed=settings.seed
        ).loss
        # a model that is trained already starts so low that a multiple of it would mean nothing
        self.first_loss = max(first, math.log(max(2, len(data.train.classes))))

    def _try_out(self) -> None:
        """One example through the model: an input or output of the wrong shape shows here."""
        x, _ = self.train.batch(torch.arange(1), view=0, seed=self.settings.seed)
        with torch.no_grad(), evaluating(self.model):
            try:
                output = self.model(x.to(self.device))
            except RuntimeError as error:
                raise SettingsError(
                    f"the model does not take images of shape {tuple(x.shape[1:])}: {error}"
                ) from error
        if not isinstance(output, Tensor):
            raise SettingsError(
                f"the model returns a {type(output).__name__}, where the loss needs one tensor: "
                "switch auxiliary outputs off"
            )
        classes = len(self.train.classes)
        if self.loss is F.cross_entropy and output.shape[1:] != (classes,):
            raise SettingsError(
                f"the model gives {tuple(output.shape[1:])} outputs an image and the data has "
                f"{classes} classes: build the model with classes={classes}"
            )

    def epoch(self, epoch: int) -> EpochRecord:
        """One epoch of training and what is to be known of it."""
        settings, alternator = self.settings, self.alternator
        start = time.perf_counter()
        torch.manual_seed(epoch_seed(settings.seed, epoch))  # dropout
        order = torch.Generator().manual_seed(epoch_seed(settings.seed, epoch))
        shuffled = torch.randperm(len(self.train), generator=order)
        alternator.begin_epoch(epoch)
        phase, round_ = alternator.phase, alternator.round
        mean = self._descend(epoch, shuffled)
        alternator.end_epoch(mean)
        self._wait()
        seconds = time.perf_counter() - start
        record = self._look(epoch, str(phase), round_, mean)
        if not math.isfinite(record.loss_live) or record.loss_live > 5 * self.first_loss:
            raise _Diverged(
                f"in epoch {epoch + 1}: the live loss is {record.loss_live:.3g}, more than 5 × "
                f"{self.first_loss:.3g}, which it had before training or has at chance"
            )
        return replace(
            record,
            seconds=seconds,
            stroke_seconds=alternator.stroke_seconds,
            eval_seconds=time.perf_counter() - start - seconds,
        )

    def _descend(self, epoch: int, shuffled: Tensor) -> float:
        """The steps of one epoch; gives their mean loss."""
        settings, alternator, device = self.settings, self.alternator, self.device
        total = torch.zeros((), device=device)
        check = max(1, self.steps // 8)
        self.model.train()
        for step, indices in enumerate(shuffled.split(settings.batch_size)):
            x, y = self.train.batch(indices, view=alternator.view, seed=settings.seed)
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            if settings.channels_last:
                x = x.contiguous(memory_format=torch.channels_last)
            with alternator.step(indices, step / self.steps), self._cast():
                value = self.loss(self.model(x), y)
                penalty = alternator.penalty()
            objective = value if penalty is None else value + penalty
            self.optimizer.zero_grad()
            objective.backward()
            if settings.clip is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
            self.optimizer.step()
            self.scheduler.step()
            alternator.after_step()
            if isinstance(self.average, AveragedModel):
                self.average.update_parameters(self.model)
            total += value.detach().float() * len(indices)
            if step % check == 0 and not math.isfinite(float(total)):
                raise _Diverged(f"in epoch {epoch + 1}, by step {step + 1}: the loss is undefined")
            if self.progress is not None:
                self.progress(
                    Progress(epoch, settings.epochs, step + 1, self.steps, alternator.phase)
                )
        mean = float(total) / len(shuffled)
        if not math.isfinite(mean):
            raise _Diverged(f"in epoch {epoch + 1}: the loss is undefined")
        return mean

    def _look(self, epoch: int, phase: str, round_: int, mean: float) -> EpochRecord:
        """Measure the epoch's last weights."""
        alternator, seed = self.alternator, self.settings.seed
        probe = {"indices": self.probe, "view": alternator.view, "seed": seed, "loss": self.loss}
        live = evaluate(self.model, self.train, **probe)  # type: ignore[arg-type]
        held = held_error = None
        for part in self.probe.split(500):
            under = alternator.held_network(part)
            if under is not None:
                with under:
                    some = evaluate(self.model, self.train, **(probe | {"indices": part}))  # type: ignore[arg-type]
                share = len(part) / len(self.probe)
                held = (held or 0.0) + some.loss * share
                held_error = (held_error or 0.0) + some.error * share
        test = evaluate(self.model, self.test, loss=self.loss)
        average = evaluate(self.average, self.test, loss=self.loss) if self.average else None
        x, _ = self.train.batch(self.probe[:256], view=alternator.view, seed=seed)
        with torch.no_grad(), evaluating(self.model), recording(self.model, strict=False) as rec:
            self.model(x.to(self.device))
        return EpochRecord(
            epoch=epoch + 1,
            phase=phase,
            round=round_,
            steps=self.steps * (epoch + 1),
            lr=self.optimizer.param_groups[0]["lr"],
            loss_train=mean,
            loss_live=live.loss,
            loss_held=held,
            loss_test=test.loss,
            error=test.error,
            loss_average=average.loss if average else None,
            error_average=average.error if average else None,
            drift=None if alternator.drift is None else float(alternator.drift),
            density=float(rec.support.density()) if rec.sites else float("nan"),
            seconds=0.0,
            stroke_seconds=0.0,
            eval_seconds=0.0,
            error_live=live.error,
            error_held=held_error,
        )

    def _cast(self) -> AbstractContextManager[Any]:
        if self.settings.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _on_device(source: Any, device: torch.device) -> Any:
    return source.to(device) if hasattr(source, "to") else source
