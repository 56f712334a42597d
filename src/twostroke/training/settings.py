"""Settings of a training run, checked at construction so that nothing fails after an hour."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..errors import SettingsError, unknown
from ..processes import Processes, processes_of
from ..processes.launch import device_named
from ..solvers import Muon
from .order import Order

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeScheduler = Callable[[Optimizer, int], LRScheduler]
Precision = Literal["fp32", "bf16", "auto"]
Schedule = Literal["one-cycle", "cosine", "step", "constant"]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and in which numbers a run computes."""

    seed: int = 0
    """Of the order of examples, augmentation and dropout; on the command line also of the initial weights."""
    device: str = "auto"
    """cpu, cuda, cuda:1; auto takes the GPU where there is one."""
    precision: Precision = "fp32"
    """bf16 computes in bfloat16 where that is safe (autocast). auto is that, channels-last, where GPU or CPU
    have instructions for it, else fp32; the run keeps what it chose."""
    channels_last: bool = False
    """Keep images channels-last in memory, which GPUs prefer."""

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16", "auto"):
            raise SettingsError(f"precision is 'fp32', 'bf16' or 'auto', not {self.precision!r}")
        if (
            self.precision == "auto"
        ):  # now, and by what there is: a run stays the same wherever it goes on
            fast = has_bfloat16(self.device)
            object.__setattr__(self, "precision", "bf16" if fast else "fp32")
            object.__setattr__(self, "channels_last", fast or self.channels_last)

    def torch_device(self) -> torch.device:
        """The device to train on; `SettingsError` when it is not there."""
        return device_named(self.device)


def has_bfloat16(device: str) -> bool:
    """Whether a device computes in bfloat16 by instructions of its own."""
    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)


@dataclass(frozen=True, kw_only=True)
class Settings(Machine):
    """How to train; the same for every kind of alternation, so that arms can be compared."""

    epochs: int = 10
    """Epochs in all."""
    batch_size: int = 128
    """Examples a step."""
    optimizer: Literal["sgd", "adamw", "muon"] | MakeOptimizer = "sgd"
    """sgd (momentum, Nesterov), adamw, or muon (descent in the spectral norm).

    Or a function of the parameters that returns any torch optimiser; then lr, momentum and weight_decay are its
    own business."""
    lr: float | None = None
    """Peak learning rate; left out, 0.1 for sgd, 0.001 for adamw, 0.05 for muon."""
    momentum: float = 0.9
    """Momentum of sgd and muon."""
    weight_decay: float | None = None
    """Left out, 5e-4 for sgd, 0.01 for adamw, 0.3 for muon. Part of the gradient with sgd; with the others a
    share of the weights, times the learning rate."""
    schedule: Schedule | MakeScheduler = "one-cycle"
    """Learning rate by progress: one-cycle (linear up over the first warmup_share, linear down to 0), cosine,
    step (a tenth at 4/7, 5/7 and 6/7, as ALL-CNN was trained), constant.

    Or a function of the optimiser and the number of steps that returns a scheduler, which is stepped after
    every batch."""
    warmup_share: float = 0.25
    """Share of the run in which the learning rate rises (one-cycle, cosine)."""
    max_grad_norm: float | None = None
    """Largest norm of the gradient; a longer one is shortened to it."""
    ema_decay: float | None = None
    """Also keep and evaluate an exponential average of the weights; this share of it stays at each step, as
    in 0.98. It changes nothing in the training."""
    target_error: float | None = None
    """Stop when the live test error, in %, is this or lower."""
    order: Order = "shuffle"
    """Order of the examples; balanced gives 2, 4, 8, ... processes equal shares of each batch where supports
    are stored. Both are one order for any number of processes."""
    accumulate: int = 1
    """Run each batch in so many parts, one after another, to fit memory; their gradients are added up."""
    probe: int = 1000
    """Training examples on which held and live loss are watched, and density on the first 256."""
    sync_batch_norm: bool = False
    """Several GPUs: take batch norm's statistics over the whole batch."""
    checkpoint_minutes: float | None = 5.0
    """Minutes after which a checkpoint comes within an epoch, too; none: only after each epoch."""
    timeout: float = 600.0
    """Several processes: seconds that one waits for the others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "batch_size", "probe", "accumulate"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SettingsError(f"{name} must be a whole number of at least 1, not {value!r}")
        _between("lr", self.lr, 0, math.inf, "a learning rate above 0", ends=False)
        _between("momentum", self.momentum, 0, 1, "a share from 0 up to, not including, 1")
        _between("weight_decay", self.weight_decay, 0, math.inf, "0 or more")
        _between("warmup_share", self.warmup_share, 0, 1, "a share of the run in [0, 1)")
        _between("max_grad_norm", self.max_grad_norm, 0, math.inf, "a norm above 0", ends=False)
        _between("ema_decay", self.ema_decay, 0, 1, "a share from 0 up to, not including, 1")
        minutes = self.checkpoint_minutes
        _between("checkpoint_minutes", minutes, 0, math.inf, "a number of minutes, 0 or more")
        _between("timeout", self.timeout, 0, math.inf, "a number of seconds above 0", ends=False)
        if self.accumulate > self.batch_size:
            raise SettingsError(
                f"a batch of {self.batch_size} has no {self.accumulate} parts: set accumulate to "
                f"{self.batch_size} or less"
            )
        _choose("order", self.order, {"shuffle": None, "balanced": None})
        _choose("optimizer", self.optimizer, OPTIMIZERS)
        _choose("schedule", self.schedule, SCHEDULES)
        if self.target_error is not None and not 0 <= self.target_error <= 100:
            raise SettingsError(f"target_error is in %, between 0 and 100, not {self.target_error}")

    def but(self, **changes: Any) -> Settings:
        """A copy with some settings changed; an unknown name raises `SettingsError`."""
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                raise SettingsError(unknown("setting", name, known))
        return replace(self, **changes)

    def processes(self) -> Processes:
        """The processes that this one was launched with; waits for them, and raises as `processes_of` does."""
        return processes_of(
            device=self.device,
            precision=self.precision,
            sync_batch_norm=self.sync_batch_norm,
            timeout=self.timeout,
        )

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """The optimiser for some parameters."""
        if not isinstance(self.optimizer, str):
            return self.optimizer(parameters)
        lr, decay = self.peak, USUAL[self.optimizer][1]
        decay = decay if self.weight_decay is None else self.weight_decay
        return OPTIMIZERS[self.optimizer](parameters, lr, self.momentum, decay)

    @property
    def peak(self) -> float:
        """The peak learning rate; an optimiser of one's own may have another."""
        if self.lr is not None or not isinstance(self.optimizer, str):
            return self.lr or 0.1
        return USUAL[self.optimizer][0]

    def make_scheduler(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        """The scheduler for a run of so many steps."""
        if not isinstance(self.schedule, str):
            return self.schedule(optimizer, steps)
        factor = SCHEDULES[self.schedule]
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: factor(min(step, steps) / max(steps, 1), self.warmup_share)
        )


def _between(
    name: str, value: float | None, low: float, high: float, what: str, *, ends: bool = True
) -> None:
    """Raise `SettingsError` unless the value is None or in [low, high); without `ends` in (low, high)."""
    if value is not None and not (low <= value < high and (ends or value > low)):
        raise SettingsError(f"{name} is {what}, not {value}")


def _choose(name: str, value: object, known: Mapping[str, Any]) -> None:
    if isinstance(value, str) and value not in known:
        raise SettingsError(unknown(name, value, known))


def _sgd(parameters: Iterable[nn.Parameter], lr: float, momentum: float, decay: float) -> Optimizer:
    return torch.optim.SGD(
        parameters, lr=lr, momentum=momentum, nesterov=momentum > 0, weight_decay=decay
    )


def _adamw(
    parameters: Iterable[nn.Parameter], lr: float, momentum: float, decay: float
) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=decay)


def _muon(
    parameters: Iterable[nn.Parameter], lr: float, momentum: float, decay: float
) -> Optimizer:
    return Muon(parameters, lr, momentum=momentum, weight_decay=decay)


def _one_cycle(t: float, warm: float) -> float:
    return t / warm if t < warm else (1 - t) / (1 - warm)


def _cosine(t: float, warm: float) -> float:
    return t / warm if t < warm else (1 + math.cos(math.pi * (t - warm) / (1 - warm))) / 2


# learning rate and weight decay where none is given: Muon's as tuned (benchmarks/convergence), SGD's
# common, AdamW's PyTorch's
USUAL = {"sgd": (0.1, 5e-4), "adamw": (1e-3, 0.01), "muon": (0.05, 0.3)}
OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter], float, float, float], Optimizer]] = {
    "sgd": _sgd,
    "adamw": _adamw,
    "muon": _muon,
}
# learning rate relative to its peak, by progress through the run and the share spent warming up
SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "one-cycle": _one_cycle,
    "cosine": _cosine,
    "step": lambda t, warm: 0.1 ** sum(t >= k / 7 for k in (4, 5, 6)),
    "constant": lambda t, warm: 1.0,
}
# what reached tuned SGD's error in the fewest steps (docs/convergence.md); about half the epochs do
FAST = Settings(optimizer="muon", ema_decay=0.98)
