"""The state machine of instance-wise alternation: warm-up, then rounds of two strokes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data import announce, check_replayable
from ..errors import SettingsError
from ..store import Origin
from ..support import Held, Share, Support, hold, record, recording, sites
from ..support.modes import evaluating
from .alternator import Alternator, Given, Phase
from .fingerprint import data_fingerprint, model_fingerprint
from .owned_masks import OwnedMasks
from .statistics import batches_seen, estimate_statistics

if TYPE_CHECKING:
    from .instance_wise import InstanceWise


class InstanceWiseAlternator(Alternator):
    """Warm-up, then rounds of one support stroke and one weight stroke.

    Of several processes each finds, stores and holds the supports of its own examples.
    """

    stores = True

    def __init__(self, given: Given, kind: InstanceWise) -> None:
        super().__init__(given)
        self.kind = kind
        model, source = self.model, self.source
        self.device = next(model.parameters()).device
        check_replayable(source, samples=32)
        examples = len(source)
        draw = torch.Generator().manual_seed(self.seed)
        # the same number of examples for any number of processes
        self.probe = torch.randperm(examples, generator=draw)[: kind.probe].sort().values
        self.owned = self.processes.owned(examples)
        # one example tells the sites, and refuses what cannot be held, before any work is done
        x, _ = source.batch(torch.arange(1), view=0, seed=self.seed)
        with evaluating(model):
            found = sites(model, x.to(self.device), pooling=kind.pooling)
        if not found:
            raise SettingsError(
                "the model has no site that could be held (no ReLU, no max pooling)"
            )
        self.masks = OwnedMasks(
            kind.store,
            given.folder if kind.store_path is None else Path(kind.store_path),
            found,
            examples,
            self.processes,
            self.device,
            Origin(model_fingerprint(model), data_fingerprint(source, self.seed), self.seed),
            note=self.notes.append,
        )
        # how many batches each batch norm had seen when its statistics were last looked at
        self._batches = batches_seen(model)
        self._held: Held | None = None
        self._since: list[float] = []  # losses of the epochs of the weight stroke under way
        self._due = False  # a support stroke is due when the next epoch begins
        self._round_view = 0  # of the augmented examples that the masks belong to
        self._next_check = 0.0

    @property
    def pausable(self) -> bool:  # type: ignore[override]
        """Not while an epoch is recorded: its masks are whole at its end only."""
        return self.phase is not Phase.RECORDING

    # -- strokes -----------------------------------------------------------------------------

    def begin_epoch(self, epoch: int) -> None:
        """Begins a round when one is due: by a sweep here, or by recording the coming epoch."""
        super().begin_epoch(epoch)
        if self.round == 0:
            self.masks.check_vacant()  # before the warm-up, not after it
        if self.phase is Phase.LIVE and not self._due:
            self._due = self._warm(self.kind.warmup, epoch)
        if self._due:
            self._due = False
            self._since = []
            self.round += 1
            self._round_view = epoch
            if self.kind.momentum == "reset" and self.optimizer is not None:
                self.optimizer.state.clear()
            self.masks.store.begin(self.round, self._round_view)
            if self.kind.refresh == "sweep":
                self.sweep()
                self.phase = Phase.HELD
            else:
                self.phase = Phase.RECORDING
        if self.phase is not Phase.LIVE:
            self.view = self._round_view  # a mask belongs to the view it was recorded from
        self._next_check = 1 / self.kind.checks

    def sweep(self, batch_size: int = 500) -> None:
        """Support stroke: record every example, in evaluation mode, without gradient."""
        start = time.perf_counter()
        self._estimate()
        parts = self.owned.split(batch_size)
        announce(self.source, parts, view=self._round_view, seed=self.seed)
        for indices in parts:
            self.masks.write(indices, self._record(indices, self._round_view))
        self.masks.store.publish()
        self.stroke_seconds += time.perf_counter() - start

    def _estimate(self) -> None:
        """Give batch norm statistics of the weights as they are now, where it has trained since."""
        examples = min(self.kind.statistics, len(self.source))
        if examples == 0:
            return
        now = batches_seen(self.model)
        trained = [name for name, n in now.items() if n == 0 or n != self._batches[name]]
        with self.autocast():
            done = estimate_statistics(
                self.model,
                self.source,
                examples=examples,
                seed=self.seed,
                view=self._round_view,
                only=trained,
            )
        if done:
            self.processes.same(self.model, buffers_only=True)
            self.stroke_visits += examples
        self._batches = batches_seen(self.model)

    def _measured(self) -> Share:
        """Drift of the probe: its held masks against what they would be now."""
        with self.processes.taking(self.probe) as probe:
            now = self._record(probe, self._round_view)
            return self.processes.whole(self.masks.read(probe).drift(now))

    def _record(self, indices: Tensor, view: int) -> Support:
        x, _ = self.source.batch(indices, view=view, seed=self.seed)
        x = x.to(self.device)
        self.stroke_visits += len(indices) * (not self.processes.idle)
        kind = self.kind
        with evaluating(self.model), self.autocast():
            return record(self.model, x, rule=kind.rule, pooling=kind.pooling, gated=kind.gated)

    @contextmanager
    def step(self, indices: Tensor, progress: float = 0.0) -> Iterator[None]:
        """Live, recording, or held; asks for the drift first when it is time to."""
        limited = self.kind.drift is not None  # without a limit the end of the epoch is enough
        if limited and self.phase is Phase.HELD and progress >= self._next_check:
            self._next_check += 1 / self.kind.checks
            self._check_drift()
        if self.phase is Phase.HELD:
            kind = self.kind
            with hold(
                self.model, self.masks.read(indices), gated=kind.gated, penalty=kind.penalty > 0
            ) as held:
                self._held = held
                yield
            self._held = None
        elif self.phase is Phase.RECORDING:
            with recording(self.model, pooling=self.kind.pooling) as recorder:
                yield
            if not self.processes.idle:
                self.masks.write(indices, recorder.support)
        else:
            yield

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Masks of these batches are read ahead, where they come from a file."""
        if self.phase is Phase.HELD:
            self.masks.expect(batches)

    def penalty(self) -> Tensor | None:
        """`penalty * inconsistency` of the step under way; call it inside of `step`."""
        if self._held is None or self.kind.penalty == 0:
            return None
        return self.kind.penalty * self._held.inconsistency

    def _check_drift(self) -> None:
        """Compare the held masks of the probe with what they would be now; end the stroke if need be."""
        start = time.perf_counter()
        self.drift = self._measured()
        if self.kind.drift is not None and self.drift > self.kind.drift:
            self.phase, self._due = Phase.LIVE, True
        self.stroke_seconds += time.perf_counter() - start

    def end_epoch(self, loss: float) -> None:
        """Decides whether the weight stroke ends here."""
        super().end_epoch(loss)
        if self.phase is Phase.RECORDING:
            self.masks.store.publish()
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
        """The network under the stored masks of these examples, those of the last support stroke."""
        if self.round == 0 or self.phase is Phase.RECORDING:
            return None
        return hold(self.model, self.masks.read(indices), gated=self.kind.gated)

    def state(self) -> tuple[dict[str, Any], Support | None]:
        """Adds the stroke under way, and the stored masks or, in a file's case, what they are."""
        values, _ = super().state()
        values |= {"since": list(self._since), "due": self._due, "batches": self._batches}
        values["next_check"] = self._next_check
        if self.round == 0:
            return values, None
        values["round_view"] = self._round_view
        references = self.masks.references()
        if references is None:
            return values, self.masks.whole()
        return values | {"store": references}, None

    def saved(self) -> None:
        """Files of rounds that only earlier checkpoints refer to are deleted."""
        self.masks.settle()

    def restore(self, values: Mapping[str, Any], support: Support | None) -> None:
        """Go on from what `state` gave."""
        self._round_view = int(values.get("round_view", 0))
        self.masks.restore(int(values["round"]), self._round_view, values.get("store", []), support)
        super().restore(values, support)
        self._since = [float(loss) for loss in values["since"]]
        self._due = bool(values["due"])
        self._next_check = float(values["next_check"])
        self._batches = {str(name): int(count) for name, count in values["batches"].items()}

    def close(self) -> None:
        """Give back the store's files and threads; what no checkpoint refers to is deleted."""
        self.masks.close()
