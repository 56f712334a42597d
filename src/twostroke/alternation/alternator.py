"""The state machines behind the kinds of alternation: thin callers of `record` and `hold`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data import ExampleSource, check_replayable
from ..errors import SettingsError
from ..store import MemoryStore
from ..support import Held, Share, Support, hold, record, recording, sites
from ..support.modes import evaluating
from .ends import Plateau
from .kinds import BatchWise, InstanceWise


class Phase(StrEnum):
    """What a step does with the support."""

    LIVE = "live"
    RECORDING = "recording"
    HELD = "held"


class Alternator:
    """Base of the state machines. Ask `view` for the augmentation draw of the epoch under way."""

    def __init__(
        self, model: nn.Module, source: ExampleSource, seed: int, optimizer: Optimizer | None
    ) -> None:
        self.model = model
        self.source = source
        self.seed = seed
        self.optimizer = optimizer
        self.phase = Phase.LIVE
        self.round = 0
        self.view = 0
        self.stroke_seconds = 0.0  # spent in support strokes and drift checks since begin_epoch
        self.drift: Share | None = None  # last measured
        self._losses: list[float] = []

    def begin_epoch(self, epoch: int) -> None:
        """An epoch begins, counted from 0; a support stroke may happen here."""
        self.view = epoch
        self.stroke_seconds = 0.0
        self.drift = None

    def step(self, indices: Tensor, progress: float = 0.0) -> AbstractContextManager[Any]:
        """Context for the forward pass of one training step; `progress` through the epoch, 0 to 1."""
        raise NotImplementedError

    def penalty(self) -> Tensor | None:
        """Term to add to the loss of the step under way, or None."""
        return None

    def end_epoch(self, loss: float) -> None:
        """The epoch is over; `loss` is its mean training loss."""
        self._losses.append(loss)

    def held_network(self, indices: Tensor) -> AbstractContextManager[Any] | None:
        """Context in which these examples meet the held network, or None where nothing is held."""
        return None

    def state(self) -> tuple[dict[str, Any], Support | None]:
        """What a checkpoint must keep between epochs: plain values, and the stored support."""
        return {"round": self.round, "phase": str(self.phase), "losses": list(self._losses)}, None

    def restore(self, values: Mapping[str, Any], support: Support | None) -> None:
        """Go on from what `state` gave."""
        self.round = int(values["round"])
        self.phase = Phase(values["phase"])
        self._losses = [float(loss) for loss in values["losses"]]

    def _warm(self, warmup: int | Plateau, epoch: int) -> bool:
        return warmup.reached(self._losses) if isinstance(warmup, Plateau) else epoch >= warmup


class LiveAlternator(Alternator):
    """Never holds anything."""

    @contextmanager
    def step(self, indices: Tensor, progress: float = 0.0) -> Iterator[None]:
        """Nothing is done to the step."""
        yield


class BatchWiseAlternator(Alternator):
    """After the warm-up every batch is masked by its own rule, on the fly."""

    def __init__(
        self,
        model: nn.Module,
        source: ExampleSource,
        seed: int,
        optimizer: Optimizer | None,
        kind: BatchWise,
    ) -> None:
        super().__init__(model, source, seed, optimizer)
        self.kind = kind
        self.rule = kind.mask_rule()

    def begin_epoch(self, epoch: int) -> None:
        """Ends the warm-up when it is time."""
        super().begin_epoch(epoch)
        if self.phase is Phase.LIVE and self._warm(self.kind.warmup, epoch):
            self.phase, self.round = Phase.HELD, 1

    @contextmanager
    def step(self, indices: Tensor, progress: float = 0.0) -> Iterator[None]:
        """Hold by rule once warm."""
        if self.phase is Phase.LIVE:
            yield
        else:
            with hold(self.model, self.rule, gated=self.kind.gated):
                yield

    def held_network(self, indices: Tensor) -> AbstractContextManager[Any] | None:
        """The network under the masks of these examples as one batch."""
        return (
            None if self.phase is Phase.LIVE else hold(self.model, self.rule, gated=self.kind.gated)
        )


class InstanceWiseAlternator(Alternator):
    """Warm-up, then rounds of one support stroke and one weight stroke."""

    def __init__(
        self,
        model: nn.Module,
        source: ExampleSource,
        seed: int,
        optimizer: Optimizer | None,
        kind: InstanceWise,
    ) -> None:
        super().__init__(model, source, seed, optimizer)
        self.kind = kind
        self.device = next(model.parameters()).device
        if kind.momentum == "reset" and optimizer is None:
            raise SettingsError("momentum='reset' needs the optimiser: start(..., optimizer=...)")
        check_replayable(source, samples=32)
        examples = len(source)
        draw = torch.Generator().manual_seed(seed)
        self.probe = torch.randperm(examples, generator=draw)[: kind.probe].sort().values
        # one example tells the sites, and refuses what cannot be held, before any work is done
        x, _ = source.batch(torch.arange(1), view=0, seed=seed)
        with evaluating(model):
            found = sites(model, x.to(self.device), pooling=kind.pooling)
        if not found:
            raise SettingsError(
                "the model has no site that could be held (no ReLU, no max pooling)"
            )
        self.store = MemoryStore(found, examples, self.device)
        self._held: Held | None = None
        self._since: list[float] = []  # losses of the epochs of the weight stroke under way
        self._due = False  # a support stroke is due when the next epoch begins
        self._next_check = 0.0

    # -- strokes -----------------------------------------------------------------------------

    def begin_epoch(self, epoch: int) -> None:
        """Begins a round when one is due: by a sweep here, or by recording the coming epoch."""
        super().begin_epoch(epoch)
        kept_view = self.view
        if self.phase is Phase.LIVE and not self._due:
            self._due = self._warm(self.kind.warmup, epoch)
        if self._due:
            self._due = False
            self._since = []
            self.round += 1
            self._round_view = epoch
            if self.kind.momentum == "reset" and self.optimizer is not None:
                self.optimizer.state.clear()
            if self.kind.refresh == "sweep":
                self.sweep()
                self.phase = Phase.HELD
            else:
                self.phase = Phase.RECORDING
        # a mask belongs to the view it was recorded from
        self.view = kept_view if self.phase is Phase.LIVE else self._round_view
        self._next_check = 1 / self.kind.checks

    def sweep(self, batch_size: int = 500) -> None:
        """Support stroke: record every example, in evaluation mode, without gradient."""
        start = time.perf_counter()
        for indices in torch.arange(len(self.store)).split(batch_size):
            self.store.write(indices, self._record(indices, self._round_view))
        self.stroke_seconds += time.perf_counter() - start

    def _record(self, indices: Tensor, view: int) -> Support:
        x, _ = self.source.batch(indices, view=view, seed=self.seed)
        x = x.to(self.device)
        kind = self.kind
        with evaluating(self.model):
            return record(self.model, x, rule=kind.rule, pooling=kind.pooling, gated=kind.gated)

    @contextmanager
    def step(self, indices: Tensor, progress: float = 0.0) -> Iterator[None]:
        """Live, recording, or held; asks for the drift first when it is time to."""
        if self.phase is Phase.HELD and progress >= self._next_check:
            self._next_check += 1 / self.kind.checks
            self._check_drift()
        if self.phase is Phase.HELD:
            support = self.store.read(indices, self.device)
            kind = self.kind
            with hold(self.model, support, gated=kind.gated, penalty=kind.penalty > 0) as held:
                self._held = held
                yield
            self._held = None
        elif self.phase is Phase.RECORDING:
            with recording(self.model, pooling=self.kind.pooling) as recorder:
                yield
            self.store.write(indices, recorder.support)
        else:
            yield

    def penalty(self) -> Tensor | None:
        """`penalty * inconsistency` of the step under way; call it inside of `step`."""
        if self._held is None or self.kind.penalty == 0:
            return None
        return self.kind.penalty * self._held.inconsistency

    def _check_drift(self) -> None:
        """Compare the held masks of the probe with what they would be now; end the stroke if need be."""
        start = time.perf_counter()
        now = self._record(self.probe, self._round_view)
        self.drift = self.store.read(self.probe, self.device).drift(now)
        if self.kind.drift is not None and self.drift > self.kind.drift:
            self.phase, self._due = Phase.LIVE, True
        self.stroke_seconds += time.perf_counter() - start

    def end_epoch(self, loss: float) -> None:
        """Decides whether the weight stroke ends here."""
        super().end_epoch(loss)
        if self.phase is Phase.RECORDING:
            self.phase = Phase.HELD
        elif self.phase is Phase.HELD:
            self._since.append(loss)
            self._check_drift()
            over = len(self._since) >= self.kind.gap
            if self.kind.plateau is not None:
                over = over or self.kind.plateau.reached(self._since)
            self._due = self._due or over

    # -- looking at it -----------------------------------------------------------------------

    def held_network(self, indices: Tensor) -> AbstractContextManager[Any] | None:
        """The network under the stored masks of these examples."""
        if self.round == 0 or self.phase is Phase.RECORDING:
            return None
        return hold(self.model, self.store.read(indices, self.device), gated=self.kind.gated)

    def state(self) -> tuple[dict[str, Any], Support | None]:
        """Adds the stroke under way and the stored masks."""
        values, _ = super().state()
        values |= {"since": list(self._since), "due": self._due}
        if self.round == 0:
            return values, None
        values["round_view"] = self._round_view
        return values, Support(self.store.sites, self.store.rows)

    def restore(self, values: Mapping[str, Any], support: Support | None) -> None:
        """Go on from what `state` gave."""
        super().restore(values, support)
        self._since = [float(loss) for loss in values["since"]]
        self._due = bool(values["due"])
        if support is not None:
            self._round_view = int(values["round_view"])
            self.store.write(torch.arange(len(self.store)), support)
