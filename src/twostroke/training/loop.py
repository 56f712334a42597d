"""The loop that `fit` drives: one run, with everything that lives as long as the training does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..alternation import Alternation, Alternator, Phase
from ..data import Data, announce
from ..errors import SettingsError
from ..processes import Processes
from ..runs import EpochRecord, Part
from ..support.modes import evaluating
from .checks import check_batch, check_output
from .evaluate import Loss
from .listener import Listener, Progress
from .measure import Measure, by_site
from .objective import Batch, Objective
from .order import epoch_order
from .settings import Settings
from .stops import Stops


class Diverged(Exception):
    """The loss is undefined or has grown too far; the text says where."""


class Loop:
    """One run. `epoch` trains and measures one epoch; a checkpoint keeps what the attributes hold.

    `part` is the epoch under way, or one that a checkpoint gave. `keep` writes a checkpoint within it, `check`
    refuses a state that none can hold; they are left out where there is no folder.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        *,
        alternation: Alternation,
        settings: Settings,
        loss: Loss,
        objective: Objective,
        listener: Listener,
        processes: Processes,
        folder: Path | None,
    ) -> None:
        self.settings, self.processes, self.listener = settings, processes, listener
        self.objective = objective
        with processes.together():
            _check_parts(settings, processes)
            check_batch(settings.batch_size, len(data.train))
            if not any(p.requires_grad for p in model.parameters()):
                raise SettingsError("the model has no parameter to train")
            self.device = processes.device(settings.device) or settings.torch_device()
            self.net = self.model = model.to(self.device)
            if settings.channels_last:
                self.model.to(memory_format=torch.channels_last)
            here = data.to(self.device)
            self.train = here.train
            check_output(self.model, self.train, loss, settings.seed)
        self.beside = nn.ModuleDict(objective.modules).to(self.device)
        processes.same(self.model, self.beside)
        examples = len(self.train)
        self.steps = math.ceil(examples / settings.batch_size)  # in an epoch
        draw = torch.Generator().manual_seed(settings.seed)
        probe = torch.randperm(examples, generator=draw)[: settings.probe].sort().values
        self.measure = Measure(here, probe, loss, settings.seed, processes)
        with processes.together():
            parameters = [*self.model.parameters(), *self.beside.parameters()]
            self.parameters = [p for p in parameters if p.requires_grad]
            self.optimizer = settings.make_optimizer(self.parameters)
            self.scheduler = settings.make_scheduler(self.optimizer, self.steps * settings.epochs)
            self.alternator: Alternator = alternation.start(
                self.model,
                self.train,
                seed=settings.seed,
                optimizer=self.optimizer,
                processes=processes,
                folder=folder,
                autocast=self._cast,
            )
            if settings.accumulate > 1 and self.alternator.whole_batch:
                raise SettingsError(
                    "one mask for a whole batch needs the whole batch at once: set accumulate=1, or use "
                    "more processes"
                )
        self.taken = 0  # optimiser steps
        self.part: Part | None = None
        self.note = ""  # for the record of the next epoch
        self.keep: Callable[[], None] | None = None
        self.check: Callable[[], None] | None = None
        self.stops = Stops()
        self.settled = False  # all that a checkpoint within the epoch keeps is of one moment
        self._total = torch.zeros((), device=self.device)  # of the epoch's losses
        self._started = self._kept = time.monotonic()
        self._asked = 0  # steps since the last checkpoint
        self.average: AveragedModel | None = None
        if settings.ema_decay is not None:
            ema = get_ema_multi_avg_fn(settings.ema_decay)
            self.average = AveragedModel(self.model, multi_avg_fn=ema, use_buffers=True)

    def first_loss(self) -> float:
        """The loss before training, or at chance if that is more; what later losses are compared with.

        A model that is trained already starts so low that a multiple of its loss would mean nothing.
        """
        live = self.measure.probed(self.model, view=0).loss
        chance = math.log(max(2, len(self.train.classes)))
        return max(live, chance) + self.objective.first_extra

    def epoch(self, epoch: int) -> EpochRecord:
        """One epoch of training and what is to be known of it."""
        settings, alternator, processes = self.settings, self.alternator, self.processes
        self._started = self._kept = time.monotonic()
        # dropout, apart from the other processes'
        torch.manual_seed(epoch_seed(settings.seed + (processes.index << 32), epoch))
        order = torch.Generator().manual_seed(epoch_seed(settings.seed, epoch))
        if self.part is None:
            alternator.begin_epoch(epoch)
            self.part = Part(str(alternator.phase), alternator.round, note=self.note)
            self._total = torch.zeros((), device=self.device)
        else:
            self._total, visited = self.part.give(self.device, processes)
            alternator.stroke_visits = visited
            self._started -= self.part.seconds
        self.note = ""
        part = self.part
        shuffled = epoch_order(settings.order, len(self.train), order)
        if part.mean is None:
            mean = self._descend(epoch, shuffled, part)
            self.settled = False
            alternator.end_epoch(mean)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            part.mean, part.seconds = mean, time.monotonic() - self._started
        self.settled = True
        trained = time.monotonic()
        measure = self.measure
        live = measure.probed(self.model, alternator.view)
        held = measure.held(alternator)
        test = measure.tested(self.model)
        average = measure.tested(self.average) if self.average else None
        density = measure.density(self.model)
        visits = int(processes.sum(torch.tensor(alternator.stroke_visits)))
        self.part, self.settled = None, False
        return EpochRecord(
            epoch=epoch + 1,
            phase=part.phase,
            round=part.round,
            steps=self.taken,
            visits=len(shuffled),
            stroke_visits=visits,
            lr=float(self.optimizer.param_groups[0]["lr"]),
            loss_train=part.mean,
            loss_live=live.loss,
            error_live=live.error,
            loss_held=held.loss if held else None,
            error_held=held.error if held else None,
            loss_test=test.loss,
            error=test.error,
            loss_average=average.loss if average else None,
            error_average=average.error if average else None,
            drift=None if alternator.drift is None else float(alternator.drift),
            density=float(density),
            seconds=part.seconds,
            stroke_seconds=alternator.stroke_seconds,
            eval_seconds=time.monotonic() - trained,
            held_steps=part.held_steps,
            density_by_site=by_site(density),
            drift_by_site=by_site(alternator.drift),
            note=part.note,
        )

    def pause(self) -> bool:
        """Write a checkpoint within the epoch, where its state allows one; says whether there is one."""
        if self.keep is None or self.part is None or not self.settled:
            return False
        if not self.alternator.pausable:
            return False
        visits = self.alternator.stroke_visits
        self.part.collect(self._total, visits, self.device, self.processes)
        if self.part.mean is None:
            self.part.seconds = time.monotonic() - self._started
        self.keep()
        self._kept, self._asked = time.monotonic(), 0
        return True

    def _pause_is_due(self) -> bool:
        """Whether the last checkpoint is too old; every process says the same.

        Several ask one another after 1, 2, 4, 8, ... steps only.
        """
        minutes, several = self.settings.checkpoint_minutes, self.processes.count > 1
        self._asked += 1
        if minutes is None or self.keep is None or (several and self._asked & (self._asked - 1)):
            return False
        late = time.monotonic() - self._kept > 60 * minutes
        if not several:
            return late
        return bool(self.processes.sum(torch.tensor(int(late and self.processes.main))))

    def _descend(self, epoch: int, shuffled: Tensor, here: Part) -> float:
        """The steps of one epoch that are left; gives the mean loss of all."""
        settings, alternator, processes = self.settings, self.alternator, self.processes
        total = self._total
        check = max(1, self.steps // 8)
        self.model.train()
        self.beside.train()
        batches = [
            [part for part in batch.tensor_split(settings.accumulate) if len(part)]
            for batch in shuffled.split(settings.batch_size)
        ][here.step :]
        mine = [
            processes.of_batch(part, owned=alternator.stores) for parts in batches for part in parts
        ]
        mine = [indices for indices in mine if len(indices)]
        announce(self.train, mine, view=alternator.view, seed=settings.seed)
        alternator.expect(mine)
        for step, parts in enumerate(batches, here.step):
            with self.stops.step():
                self.settled = False
                size = sum(map(len, parts))
                self.optimizer.zero_grad()
                for part in parts:
                    with processes.adding_up(self.net, part is parts[-1]):
                        total += self._gradient(part, size, epoch, step / self.steps)
                processes.mean_gradients(self.beside)
                if settings.max_grad_norm is not None:
                    nn.utils.clip_grad_norm_(self.parameters, settings.max_grad_norm)
                self.optimizer.step()
                self.taken += 1
                here.held_steps += alternator.phase is Phase.HELD
                self.scheduler.step()
                alternator.after_step()
                if self.average is not None:
                    self.average.update_parameters(self.model)
                if self.check is not None:  # now the optimiser has a state
                    self.check()
                    self.check = None
                if step % check == 0 and not math.isfinite(float(processes.sum(total))):
                    raise Diverged(
                        f"in epoch {epoch + 1}, by step {step + 1}: the loss is undefined"
                    )
                here.step, self.settled = step + 1, True
            self.listener.step(
                Progress(epoch, settings.epochs, step + 1, self.steps, alternator.phase)
            )
            if self._pause_is_due():
                self.pause()
        processes.same(self.model, self.beside, buffers_only=True)
        if self.average is not None:
            processes.same(self.average, buffers_only=True)
        mean = float(processes.sum(total)) / len(shuffled)
        if not math.isfinite(mean):
            raise Diverged(f"in epoch {epoch + 1}: the loss is undefined")
        return mean

    def _gradient(self, part: Tensor, batch: int, epoch: int, progress: float) -> Tensor:
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
            whole = (epoch + progress) / settings.epochs
            with (
                evaluating(self.model) if aside else nullcontext(),
                alternator.step(mine, progress),
                self._cast(),
            ):
                value = self.objective(self.net, Batch(x, y, mine, alternator.view, whole))
                penalty = alternator.penalty()
            descended = value if penalty is None else value + penalty
            share = counted * processes.count / batch
            (descended if share == 1 else descended * share).backward()
        return value.detach().float() * counted

    def _cast(self) -> AbstractContextManager[Any]:
        if self.settings.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of everything random in an epoch."""
    draw = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return int(torch.randint(2**62, (1,), generator=draw))


def _check_parts(settings: Settings, processes: Processes) -> None:
    """`SettingsError` where parts of a batch would be empty in some process."""
    if settings.batch_size // settings.accumulate < processes.count:
        raise SettingsError(
            f"a batch of {settings.batch_size} in {settings.accumulate} parts gives nothing to some of "
            f"{processes.count} processes: set batch_size to {processes.count * settings.accumulate} "
            "or more"
        )
