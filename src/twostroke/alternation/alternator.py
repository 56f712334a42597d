"""What every kind of alternation is to a training loop: a state machine that it asks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ..data import ExampleSource
from ..errors import SettingsError
from ..processes import ONE, Processes
from ..support import Share, Site, Support
from .plateau import Plateau


@dataclass(frozen=True)
class Given:
    """What a state machine is made for; see `Alternation.start`."""

    model: nn.Module
    source: ExampleSource
    seed: int = 0
    optimizer: Optimizer | None = None
    processes: Processes = ONE
    folder: Path | None = None
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext


class Alternation(ABC):
    """A kind of alternation: settings, from which `start` makes the state machine of one training run.

    For a kind of your own, write a subclass with a `name` and a `machine` that gives an `Alternator`.
    """

    name = "alternation"  # in words, for messages

    def start(
        self,
        model: nn.Module,
        source: ExampleSource,
        *,
        seed: int = 0,
        optimizer: Optimizer | None = None,
        processes: Processes = ONE,
        folder: Path | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> Alternator:
        """Begin with a model and the examples it will be trained on.

        `processes` are those of a run that has several; each starts a machine of its own. Files that
        the machine keeps beside checkpoints go to `folder`, or to a temporary one. Support strokes
        compute within `autocast()`.
        """
        return self.machine(Given(model, source, seed, optimizer, processes, folder, autocast))

    @abstractmethod
    def machine(self, given: Given) -> Alternator:
        """The state machine."""


class Phase(StrEnum):
    """What a step does with the support."""

    LIVE = "live"
    RECORDING = "recording"
    HELD = "held"


class Alternator:
    """Base of the state machines, and the one that never holds anything.

    `view` is the augmentation draw of the epoch under way. A subclass says what it can do:

    stores: a process must meet those examples only whose supports it has.
    whole_batch: a batch must not be run in parts.
    pausable: between the steps of an epoch, too, `state` says all; a checkpoint may come there.
    """

    stores = False
    whole_batch = False
    pausable = False

    def __init__(self, given: Given) -> None:
        self.model = given.model
        self.source = given.source
        self.seed = given.seed
        self.optimizer = given.optimizer
        self.processes = given.processes
        self.autocast = given.autocast
        self.phase = Phase.LIVE
        self.round = 0
        self.view = 0
        self.stroke_seconds = 0.0  # spent in support strokes and drift checks since begin_epoch
        self.stroke_visits = 0  # examples that went through a network for them since begin_epoch
        self.drift: Share | None = None  # last measured
        self.notes: list[str] = []  # what a user may want to know before training, a line each
        self._losses: list[float] = []

    def begin_epoch(self, epoch: int) -> None:
        """An epoch begins, counted from 0; a support stroke may happen here."""
        self.view = epoch
        self.stroke_seconds = 0.0
        self.stroke_visits = 0
        self.drift = None

    def expect(self, batches: Iterable[Tensor]) -> None:
        """The indices of this epoch's steps, in order: a hint, so that what they need can be fetched."""

    def step(self, indices: Tensor, progress: float = 0.0) -> AbstractContextManager[Any]:
        """Context for the forward pass of one training step; `progress` through the epoch, 0 to 1."""
        return nullcontext()

    def penalty(self) -> Tensor | None:
        """Term to add to the loss of the step under way, or None."""
        return None

    def after_step(self) -> None:
        """The optimiser has moved the weights."""

    def end_epoch(self, loss: float) -> None:
        """The epoch is over; `loss` is its mean training loss."""
        self._losses.append(loss)

    def held_network(self, indices: Tensor) -> AbstractContextManager[Any] | None:
        """Context in which these examples meet the held network, or None where nothing is held."""
        return None

    def state(self) -> tuple[dict[str, Any], Support | None]:
        """What a checkpoint must keep: plain values, and the stored support."""
        values = {"round": self.round, "phase": str(self.phase), "losses": list(self._losses)}
        # of the epoch under way
        drift = None
        if self.drift is not None:
            counts = self.drift.counts.items()
            drift = [[site.to_json(), n, self.drift.units[site]] for site, n in counts]
        return values | {"view": self.view, "drift": drift, "spent": self.stroke_seconds}, None

    def saved(self) -> None:
        """What `state` gave last is safe on disk, and what it gave before is needed no longer."""

    def close(self) -> None:
        """Training is over; files and threads are given back."""

    def restore(self, values: Mapping[str, Any], support: Support | None) -> None:
        """Go on from what `state` gave."""
        self.round = int(values["round"])
        self.phase = Phase(values["phase"])
        self._losses = [float(loss) for loss in values["losses"]]
        self.view, self.stroke_seconds = int(values["view"]), float(values["spent"])
        self.drift = None
        if values["drift"] is not None:
            rows = [(Site.from_json(site), n, units) for site, n, units in values["drift"]]
            self.drift = Share.of({r[0]: r[1] for r in rows}, {r[0]: r[2] for r in rows})

    def _warm(self, warmup: int | Plateau, epoch: int) -> bool:
        return warmup.reached(self._losses) if isinstance(warmup, Plateau) else epoch >= warmup


def check_warmup(warmup: int | Plateau) -> None:
    """Raise `SettingsError` unless it is a number of epochs or a plateau to wait for."""
    whole = isinstance(warmup, int) and not isinstance(warmup, bool) and warmup >= 0
    if not whole and not isinstance(warmup, Plateau):
        raise SettingsError(
            f"warmup is a whole number of epochs, 0 or more, or a Plateau to wait for, not {warmup!r}"
        )


@dataclass(frozen=True, kw_only=True)
class Live(Alternation):
    """No alternation: ordinary training through the same loop, for fair comparisons."""

    name = "no alternation"

    def machine(self, given: Given) -> Alternator:
        """One that never holds anything."""
        live = Alternator(given)
        live.pausable = True
        return live
