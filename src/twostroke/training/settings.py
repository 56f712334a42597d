"""Settings of a training run, checked at construction so that nothing fails after an hour."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..errors import SettingsError, unknown
from ..solvers import Muon
from .order import Order
from .rest import Settled
from .visits import Selective

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeScheduler = Callable[[Optimizer, int], LRScheduler]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train; the same for every kind of alternation, so that arms can be compared.

    lr, weight_decay: None is what serves the optimiser on small images, `USUAL`. Weight decay is part of
        the gradient with "sgd", and a share of the weights, times the learning rate, with the others.
    optimizer: "sgd" (momentum, Nesterov), "adamw" or "muon" (`solvers.Muon`), or a function of the
        parameters that returns any torch optimiser; then `lr`, `momentum` and `weight_decay` are
        its own business.
    schedule: learning rate by progress: "one-cycle" (linear up over the first `warm` share, linear
        down to 0), "cosine", "step" (a tenth at 4/7, 5/7 and 6/7, as ALL-CNN was trained),
        "constant", or a function of the optimiser and the number of steps that returns a scheduler,
        which is stepped after every batch.
    clip: largest norm of the gradient, or None.
    average: share of an exponential average of the weights that stays at each step, such as 0.98; the
        average is then evaluated too, and is `FitResult.average`. It changes nothing in the training.
    visits: `Selective(...)` to visit settled examples less often; None visits every one each epoch.
    rest: `Settled(...)` to freeze the layers below supports that no longer move; None trains all.
    probe: training examples on which held and live loss are watched, and density on the first 256.
    target_error: stop when the live test error (in %) is this or lower.
    order: "shuffle", or "balanced", which gives 2, 4, 8, ... processes equal shares of each batch where
        supports are stored; one order for any number of processes, both of them.
    accumulate: run each batch in so many parts, one after another, to fit memory; their gradients add
        up to the batch's.
    sync_batch_norm: several GPUs take batch norm's statistics over the whole batch.
    timeout: seconds that one of several processes waits for the others.
    """

    epochs: int = 10
    batch_size: int = 128
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float | None = None
    optimizer: str | MakeOptimizer = "sgd"
    schedule: str | MakeScheduler = "one-cycle"
    warm: float = 0.25
    clip: float | None = None
    average: float | None = None
    visits: Selective | None = None
    rest: Settled | None = None
    seed: int = 0
    device: str = "auto"
    precision: Precision = "fp32"
    channels_last: bool = False
    probe: int = 1000
    target_error: float | None = None
    order: Order = "shuffle"
    accumulate: int = 1
    sync_batch_norm: bool = False
    timeout: float = 600.0

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("batch_size", 1), ("probe", 1), ("accumulate", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < low:
                raise SettingsError(
                    f"{name} must be a whole number of at least {low}, not {value!r}"
                )
        if self.lr is not None and not (math.isfinite(self.lr) and self.lr > 0):
            raise SettingsError(f"the learning rate must be positive, not {self.lr}")
        if not 0 <= self.momentum < 1:
            raise SettingsError(f"momentum must be in [0, 1), not {self.momentum}")
        if self.weight_decay is not None and not self.weight_decay >= 0:
            raise SettingsError(f"weight_decay must not be negative, as {self.weight_decay} is")
        if not 0 <= self.warm < 1:
            raise SettingsError(f"warm is a share of the run in [0, 1), not {self.warm}")
        if self.clip is not None and not self.clip > 0:
            raise SettingsError(f"clip must be positive, not {self.clip}")
        if self.average is not None and not 0 <= self.average < 1:
            raise SettingsError(f"average is a share in [0, 1), not {self.average}")
        if self.precision not in ("fp32", "bf16"):
            raise SettingsError(f"precision is 'fp32' or 'bf16', not {self.precision!r}")
        if not (math.isfinite(self.timeout) and self.timeout > 0):
            raise SettingsError(f"timeout is a number of seconds above 0, not {self.timeout}")
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

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Settings:
        """Settings by name, some of them changed: "fast", see docs/convergence.md.

        Learning rate and weight decay stay the optimiser's usual ones, 0.05 and 0.3 for Muon.
        Raises `SettingsError` for a name or a change that there is not.
        """
        _choose("preset", name, PRESETS)
        return cls().but(**(PRESETS[name] | changes))

    def but(self, **changes: Any) -> Settings:
        """A copy with some settings changed; an unknown name raises `SettingsError`."""
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                raise SettingsError(unknown("setting", name, known))
        return replace(self, **changes)

    def torch_device(self) -> torch.device:
        """The device to train on; `SettingsError` when it is not there."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            known = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
            raise SettingsError(
                f"device {self.device!r} cannot be used here ({str(error).splitlines()[0]}): "
                f"there is {', '.join(known)}"
            ) from None
        return device

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """The optimiser for some parameters."""
        if not isinstance(self.optimizer, str):
            return self.optimizer(parameters)
        lr, decay = USUAL[self.optimizer]
        lr = lr if self.lr is None else self.lr
        decay = decay if self.weight_decay is None else self.weight_decay
        return OPTIMIZERS[self.optimizer](parameters, lr, self.momentum, decay)

    def make_scheduler(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        """The scheduler for a run of so many steps."""
        if not isinstance(self.schedule, str):
            return self.schedule(optimizer, steps)
        factor = SCHEDULES[self.schedule]
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: factor(min(step, steps) / max(steps, 1), self.warm)
        )


def _choose(name: str, value: object, known: dict[str, Any]) -> None:
    if isinstance(value, str) and value not in known:
        raise SettingsError(unknown(name, value, known))


def _sgd(parameters: Iterable[nn.Parameter], lr: float, momentum: float, decay: float) -> Optimizer:
    return torch.optim.SGD(
        parameters,
        lr=lr,
        momentum=momentum,
        nesterov=momentum > 0,
        weight_decay=decay,
    )


def _adamw(
    parameters: Iterable[nn.Parameter], lr: float, momentum: float, decay: float
) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=decay)


def _one_cycle(t: float, warm: float) -> float:
    return t / warm if t < warm else (1 - t) / (1 - warm)


def _cosine(t: float, warm: float) -> float:
    return t / warm if t < warm else (1 + math.cos(math.pi * (t - warm) / (1 - warm))) / 2


def _muon(
    parameters: Iterable[nn.Parameter], lr: float, momentum: float, decay: float
) -> Optimizer:
    return Muon(parameters, lr, momentum=momentum, weight_decay=decay)


# what reached SGD's error in the fewest steps (benchmarks/convergence); learning rate and weight decay are
# left to USUAL, so that they do not outlive a change of optimiser
PRESETS: dict[str, dict[str, Any]] = {"fast": {"optimizer": "muon", "average": 0.98}}
# learning rate and weight decay where none is given: Muon's as tuned there, SGD's common, AdamW's PyTorch's
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
