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

from ..alternation import Alternation, Alternator, Live, Phase, Processes
from ..data import Data, announce, as_data
from ..errors import RunFolderError, SettingsError
from ..support.modes import evaluating
from .checkpoint import CHECKPOINT, Checkpoint, epoch_seed, good_weights
from .checks import check_batch, check_output, check_weighting
from .engine import processes_of
from .evaluate import Loss
from .history import EpochRecord, FitResult, History, Status, divergence
from .measure import Measure
from .rest import Rest
from .settings import Settings
from .visits import Visits, refuse_visits


@dataclass(frozen=True)
class Progress:
    """Where a run is: step `step` of `steps`, counted from 1, in epoch `epoch` of `epochs`, from 0."""

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
    notice: Callable[[str], None] | None = None,
    **changes: Any,
) -> FitResult:
    """Train `model`, in place, and say how it went; it is left in evaluation mode.

    `data` is a `Data`, `(x, y)` or `(x, y, x_test, y_test)` tensors, or a pair of map-style data sets.
    `alternation` is `InstanceWise(...)`, `BatchWise(...)`, `SlowSupport(...)`, a kind of your own, or
    None for ordinary training. `settings` say how to train; single ones may be given by name:
    `fit(model, data, epochs=5, lr=0.2)`.

    Launched as several processes (`torchrun`, `accelerate launch`), each calls `fit` with the same
    arguments and gets the same result: the run is the one that a single process would make. Then
    `callback` and `progress` are called, and `folder` is written, by the main process.

    `callback` receives an `EpochRecord` after each epoch, `progress` a `Progress` after each step.
    With a `folder`, a checkpoint is written there after each epoch, and `resume=True` goes on from it,
    exactly (on a CPU); without it a folder that has a checkpoint is refused. `identity` is whatever
    must be equal for that to make sense. `notice` receives what is worth knowing before training
    starts, such as where masks are kept; the result's `notes` have it too.

    Ctrl-C ends the run after the step under way with status INTERRUPTED. It ends with DIVERGED and the
    weights of the last good epoch where a loss is undefined, or an epoch's mean loss is more than five
    times that before training (or log(classes), which is chance, if that is more), or, under held
    masks, the live loss is, and more than five times that with which the round began. Bad settings,
    data, or a model that cannot be held raise before any training:
    `SettingsError`, `DataError`, `UnholdableError`, and `TooLargeError` where masks fit nowhere. A disk
    that is full or a damaged file ends a run with `RunFolderError`, `StoreError` or `SupportFileError`;
    the last checkpoint stays.
    """
    settings = (settings or Settings()).but(**changes)
    if resume and folder is None:
        raise SettingsError("resume=True needs the folder that holds the checkpoint")
    place = None if folder is None else Path(folder)
    processes = processes_of(settings)
    if not processes.main:
        callback = progress = notice = None
    with processes.together():
        run = _Run(model, as_data(data), settings, loss, progress, processes)
        if place is not None and not resume and (place / CHECKPOINT).exists():
            raise RunFolderError(
                f"{place} holds a run's checkpoint: go on with it by resume=True, or choose another folder"
            )
        refuse_visits(settings.visits, alternation or Live())
    processes.same(model)
    with processes.together():
        run.start(alternation or Live(), place)
    try:
        return _fit(run, callback, place, resume, identity, notice)
    finally:
        run.rest.close()
        run.alternator.close()


def _fit(
    run: _Run,
    callback: Callable[[EpochRecord], None] | None,
    folder: Path | None,
    resume: bool,
    identity: Mapping[str, Any] | None,
    notice: Callable[[str], None] | None,
) -> FitResult:
    model, settings, processes = run.model, run.settings, run.processes
    first = run.measure.probed(model, view=0).loss
    # a model that is trained already starts so low that a multiple of it would mean nothing
    run.first_loss = max(first, math.log(max(2, len(run.train.classes))))
    checkpoint = None
    if folder is not None:
        with processes.together():
            checkpoint = Checkpoint(folder, processes)
    who = dict(identity or {})
    history = History()
    notes: list[str] = []
    if resume and checkpoint is not None:
        with processes.together():
            history = checkpoint.load(run, who)
        notes = checkpoint.notes
    notes = [*run.alternator.notes, *notes]
    if notice is not None:
        for text in notes:
            notice(text)
    status, detail = Status.FINISHED, ""
    trained = [model] if run.average is None else [model, run.average.module]
    good = [good_weights(one) for one in trained]
    try:
        with processes.wrapped(model) as run.net, processes.watching():
            for epoch in range(len(history), settings.epochs):
                record = run.epoch(epoch)
                if (why := divergence(record, history, run.first_loss)) is not None:
                    raise _Diverged(f"in epoch {record.epoch}: {why}")
                history.append(record)
                if checkpoint is not None:
                    checkpoint.save(run, history, who)
                if callback is not None:
                    callback(record)
                if settings.target_error is not None and record.error <= settings.target_error:
                    status = Status.TARGET
                    detail = f"{record.error:.2f} % in epoch {epoch + 1}"
                    break
                good = [good_weights(one) for one in trained]
    except _Diverged as error:
        for one, weights in zip(trained, good, strict=True):
            one.load_state_dict(weights)
        status, detail = Status.DIVERGED, str(error)
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
        detail = f"in epoch {len(history) + 1} of {settings.epochs}"
    average = None if run.average is None else run.average.module.eval()
    return FitResult(status, model.eval(), history, detail, [*notes, *run.notes], average)


class _Run:
    """One run: everything that lives as long as the training does."""

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        settings: Settings,
        loss: Loss,
        progress: Callable[[Progress], None] | None,
        processes: Processes,
    ) -> None:
        self.settings, self.loss, self.progress = settings, loss, progress
        self.notes: list[str] = []
        self.processes = processes
        self.first_loss = math.inf  # before training
        examples = len(data.train)
        check_batch(settings.batch_size, examples)
        if settings.batch_size // settings.accumulate < processes.count:
            raise SettingsError(
                f"a batch of {settings.batch_size} in {settings.accumulate} parts gives nothing to "
                f"some of {processes.count} processes: set batch_size to "
                f"{processes.count * settings.accumulate} or more"
            )
        if settings.rest is not None and processes.count > 1:
            raise SettingsError(
                f"layers rest in a run of one process, and this one has {processes.count}, which add up "
                "the gradients of a fixed set of parameters: rest=None with several"
            )
        if not any(p.requires_grad for p in model.parameters()):
            raise SettingsError("the model has no parameter to train")
        self.device = processes.device(settings.device) or settings.torch_device()
        self.net = self.model = model.to(self.device)
        if settings.channels_last:
            self.model.to(memory_format=torch.channels_last)
        here = data.to(self.device)
        self.train, self.test = here.train, here.test
        check_output(self.model, self.train, loss, settings.seed)
        self.steps = math.ceil(examples / settings.batch_size)
        draw = torch.Generator().manual_seed(settings.seed)
        probe = torch.randperm(examples, generator=draw)[: settings.probe].sort().values
        self.measure = Measure(here, probe, loss, settings.seed, processes)
        x, _ = self.train.batch(probe[:1], view=0, seed=settings.seed)
        self.rest = Rest(settings.rest, self.model, x.to(self.device), settings.epochs)

    def start(self, alternation: Alternation, folder: Path | None) -> None:
        """Make what depends on the initial weights."""
        settings, model = self.settings, self.model
        self.optimizer = settings.make_optimizer(p for p in model.parameters() if p.requires_grad)
        self.scheduler = settings.make_scheduler(self.optimizer, self.steps * settings.epochs)
        self.alternator: Alternator = alternation.start(
            model,
            self.train,
            seed=settings.seed,
            optimizer=self.optimizer,
            processes=self.processes,
            folder=folder,
        )
        if settings.accumulate > 1 and self.alternator.whole_batch:
            raise SettingsError(
                "one mask for a whole batch needs the whole batch at once: set accumulate=1, or more "
                "processes"
            )
        self.alternator.autocast = self._cast
        self.visits = Visits(settings.visits, len(self.train), settings.epochs, settings.order)
        kind = settings.visits
        if kind is not None:
            check_weighting(self.loss, len(self.train.classes), self.device)
        self.alternator.wants_example_drift = kind is not None and kind.by != "loss"
        self.taken = 0  # optimiser steps
        self.average: AveragedModel | None = None
        if settings.average is not None:
            ema = get_ema_multi_avg_fn(settings.average)
            self.average = AveragedModel(model, multi_avg_fn=ema, use_buffers=True)

    def epoch(self, epoch: int) -> EpochRecord:
        """One epoch of training and what is to be known of it."""
        settings, alternator = self.settings, self.alternator
        start = time.perf_counter()
        # dropout, apart from the other processes'
        torch.manual_seed(epoch_seed(settings.seed + (self.processes.index << 32), epoch))
        order = torch.Generator().manual_seed(epoch_seed(settings.seed, epoch))
        alternator.begin_epoch(epoch)
        shuffled = self.visits.order(
            epoch, order, alternator.example_drift, whole=alternator.needs_every_example
        )
        phase, round_ = alternator.phase, alternator.round
        mean = self._descend(epoch, shuffled)
        alternator.end_epoch(mean)
        self._wait()
        seconds = time.perf_counter() - start
        record = self._look(epoch, str(phase), round_, mean)
        return replace(
            record,
            seconds=seconds,
            visits=len(shuffled),
            stroke_seconds=alternator.stroke_seconds,
            stroke_visits=int(self.processes.sum(torch.tensor(alternator.stroke_visits))),
            eval_seconds=time.perf_counter() - start - seconds,
        )

    def _descend(self, epoch: int, shuffled: Tensor) -> float:
        """The steps of one epoch; gives their mean loss."""
        settings, alternator, device = self.settings, self.alternator, self.device
        total = torch.zeros((), device=device)
        steps = math.ceil(len(shuffled) / settings.batch_size)
        check = max(1, steps // 8)
        self.rest.train()
        batches = [
            [part for part in batch.tensor_split(settings.accumulate) if len(part)]
            for batch in shuffled.split(settings.batch_size)
        ]
        mine = [
            self.processes.of_batch(part, owned=alternator.stores)
            for parts in batches
            for part in parts
        ]
        mine = [indices for indices in mine if len(indices)]
        announce(self.train, mine, view=alternator.view, seed=settings.seed)
        alternator.expect(mine)
        for step, parts in enumerate(batches):
            size = sum(map(len, parts))
            self.optimizer.zero_grad()
            for part in parts:
                with self.processes.adding_up(self.net, part is parts[-1]):
                    total += self._gradient(part, size, step / steps)
            if settings.clip is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
            self.optimizer.step()
            self.taken += 1
            # the schedule goes by progress: as far in a shortened epoch as in a whole one
            for _ in range(self.steps * step // steps, self.steps * (step + 1) // steps):
                self.scheduler.step()
            alternator.after_step()
            if self.average is not None:
                self.average.update_parameters(self.model)
            if step % check == 0 and not math.isfinite(float(self.processes.sum(total))):
                raise _Diverged(f"in epoch {epoch + 1}, by step {step + 1}: the loss is undefined")
            if self.progress is not None:
                self.progress(Progress(epoch, settings.epochs, step + 1, steps, alternator.phase))
        self.processes.same(self.model, buffers_only=True)
        if self.average is not None:
            self.processes.same(self.average, buffers_only=True)
        self.visits.share(self.processes)
        mean = float(self.processes.sum(total)) / self.visits.weight(shuffled)
        if not math.isfinite(mean):
            raise _Diverged(f"in epoch {epoch + 1}: the loss is undefined")
        return mean

    def _gradient(self, part: Tensor, batch: int, progress: float) -> Tensor:
        """Add the gradient of a part of a batch; gives the loss summed over this process's examples.

        DistributedDataParallel takes the mean over processes, whose shares of a batch differ: each
        weighs its mean loss by its share.
        """
        settings, alternator, processes = self.settings, self.alternator, self.processes
        with processes.taking(part, owned=alternator.stores) as mine:
            x, y = self.train.batch(mine, view=alternator.view, seed=settings.seed)
            x = x.to(self.device, non_blocking=True)
            y = y.to(self.device, non_blocking=True)
            if settings.channels_last:
                x = x.contiguous(memory_format=torch.channels_last)
            counted = 0 if processes.idle else len(mine)
            # a stand-in must not enter running statistics, unless they are taken together
            aside = processes.idle and not settings.sync_batch_norm
            with (
                evaluating(self.model) if aside else nullcontext(),
                alternator.step(mine, progress),
                self._cast(),
            ):
                value = self._loss(self.net(x), y, mine)
                penalty = alternator.penalty()
            objective = value if penalty is None else value + penalty
            share = counted * processes.count / batch
            (objective if share == 1 else objective * share).backward()
        return value.detach().float() * counted

    def _loss(self, output: Tensor, y: Tensor, indices: Tensor) -> Tensor:
        """Mean loss of a batch, weighted where visits are selective."""
        if self.visits.kind is None:
            return self.loss(output, y)
        each = self.loss(output, y, reduction="none")  # type: ignore[call-arg]
        if not self.processes.idle:
            self.visits.seen(indices, each)
        if self.visits.weights is not None:
            each = each * self.visits.weights[indices].to(each)
        return each.mean()

    def _look(self, epoch: int, phase: str, round_: int, mean: float) -> EpochRecord:
        """Measure the epoch's last weights."""
        alternator, measure = self.alternator, self.measure
        live = measure.probed(self.model, alternator.view)
        held = measure.held(alternator)
        test = measure.tested(self.model)
        average = measure.tested(self.average) if self.average else None
        density, support = measure.watched(self.model)
        resting = self.rest.resting
        self.rest.note(support)
        return EpochRecord(
            epoch=epoch + 1,
            phase=phase,
            round=round_,
            steps=self.taken,
            visits=0,
            stroke_visits=0,
            lr=self.optimizer.param_groups[0]["lr"],
            loss_train=mean,
            loss_live=live.loss,
            loss_held=held.loss if held else None,
            loss_test=test.loss,
            error=test.error,
            loss_average=average.loss if average else None,
            error_average=average.error if average else None,
            drift=None if alternator.drift is None else float(alternator.drift),
            density=density,
            seconds=0.0,
            stroke_seconds=0.0,
            eval_seconds=0.0,
            error_live=live.error,
            error_held=held.error if held else None,
            resting=resting,
        )

    def _cast(self) -> AbstractContextManager[Any]:
        if self.settings.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
