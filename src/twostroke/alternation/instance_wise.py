"""Instance-wise alternation: one mask for each example, held for epochs (I-alternation, §4.1)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..data import announce, check_replayable
from ..errors import SettingsError
from ..store import Kind, Origin, check_kind
from ..support import Held, Rule, Share, Site, Support, hold, record, recording, sites
from ..support.modes import evaluating
from .alternator import Alternation, Alternator, Given, Phase, check_warmup
from .certificate import DriftCertificate
from .ends import Plateau
from .fingerprint import data_fingerprint, model_fingerprint
from .owned_masks import OwnedMasks
from .statistics import batches_seen, estimate_statistics

# examples that a drift certificate keeps margins of, a float a unit
CERTIFIED = 64


@dataclass(frozen=True, kw_only=True)
class InstanceWise(Alternation):
    """One mask for each example, held for whole epochs (the paper's I-alternation, §4.1).

    warmup: epochs of ordinary training first, or a `Plateau` to wait for; masks of a random network
        mean nothing.
    gap: a weight stroke's length in epochs at most.
    plateau: end a weight stroke also when its loss no longer falls (the paper's criterion).
    drift: end it also when this share of the units of `probe` examples has changed sides, asked
        `checks` times an epoch; the rest of the epoch then runs live. None holds regardless, which at
        a large learning rate lets held and live network part for good.
    watch: how the drift is told between support strokes: "probe" records the probe anew at each check;
        "certificate" does so at the first check of a stroke and at the end of each epoch, calibrates a
        `DriftCertificate` by it and asks that at the others, which takes no forward pass but plain
        sequences of layers only.
    refresh: "sweep" visits every example in a pass without gradient; "online" records while an
        ordinary epoch runs, which costs no pass but gives masks up to an epoch old; "running" starts
        like "online" and from then on each held step also notes the masks to hold at the example's
        next visit, so that no pass is spent, every mask is one epoch old, and each epoch is a round
        (`gap` is 1). The view of an augmented example then stays that of the first round.
    statistics: before a sweep, batch norm's running statistics are estimated anew from so many training
        examples (0: not), in modules that have seen a batch since the last sweep or none ever. A sweep
        records in evaluation mode, and after few or large steps running statistics are those of other
        weights.
    keep: at a sweep after the first, sites at which this share of the probe's units or less have
        changed sides keep their held masks, and the forward pass ends after the last site that is
        written anew. Held and live network then differ from the sweep on. The view of an augmented
        example stays that of the first round. None writes every site anew.
    rule: closed form of the mask; None is what the activation itself does.
    gated: hold `m ∘ ReLU(q)` instead of `m ∘ q`.
    penalty: weight of the term that keeps pre-activations on their held side (0: none).
    momentum: what becomes of the optimiser's state at a support stroke, "keep" or "reset".
    pooling: hold the argmax of max pooling too.
    store: where the masks live: "device" beside the model, "host" memory, a "file"; "auto" takes the
        first in which they fit well, and says which.
    store_path: folder for the file, should it come to one; one for each run, in which each of several
        processes has a folder for its share. None is the run's own in `fit(folder=...)`, and a
        temporary one otherwise.
    """

    warmup: int | Plateau = 2
    gap: int = 2
    plateau: Plateau | None = None
    drift: float | None = 0.08
    probe: int = 256
    checks: int = 4
    watch: Literal["probe", "certificate"] = "probe"
    refresh: Literal["sweep", "online", "running"] = "sweep"
    statistics: int = 2048
    keep: float | None = None
    rule: Rule | None = None
    gated: bool = False
    penalty: float = 0.0
    momentum: Literal["keep", "reset"] = "keep"
    pooling: bool = False
    store: Kind = "auto"
    store_path: str | Path | None = None

    def __post_init__(self) -> None:
        check_warmup(self.warmup)
        check_kind(self.store)
        if self.momentum not in ("keep", "reset"):
            raise SettingsError(
                f"momentum is 'keep' or 'reset' at a support stroke, not {self.momentum!r}"
            )
        if self.gap < 1:
            raise SettingsError(f"gap is a number of epochs, 1 or more, not {self.gap}")
        if self.drift is not None and not 0 < self.drift <= 1:
            raise SettingsError(f"drift is a share of units, above 0 and up to 1, not {self.drift}")
        if self.probe < 1 or self.checks < 1:
            raise SettingsError(f"probe and checks are 1 or more, not {self.probe}, {self.checks}")
        if self.watch not in ("probe", "certificate"):
            raise SettingsError(f"watch is 'probe' or 'certificate', not {self.watch!r}")
        if self.watch == "certificate" and (self.refresh != "sweep" or self.rule is not None):
            raise SettingsError(
                "a drift certificate starts from masks that were all recorded at once by the "
                "activations' own rule: with it use refresh='sweep' and no rule"
            )
        if self.refresh not in ("sweep", "online", "running"):
            raise SettingsError(f"refresh is 'sweep', 'online' or 'running', not {self.refresh!r}")
        if self.refresh != "sweep" and self.rule is not None:
            raise SettingsError(
                f"{self.refresh} support strokes record what the activations do while they train: "
                "with a rule of your own use refresh='sweep'"
            )
        if self.statistics < 0:
            raise SettingsError(f"statistics is a number of examples, or 0, not {self.statistics}")
        self._check_keep()
        if not self.penalty >= 0:
            raise SettingsError(f"penalty is a weight, 0 or more, not {self.penalty}")
        if getattr(self.rule, "shared", False):
            raise SettingsError(
                f"{type(self.rule).__name__} gives one mask to a whole batch: use BatchWise with it"
            )

    def _check_keep(self) -> None:
        if self.keep is None:
            return
        if not 0 <= self.keep < 1:
            raise SettingsError(f"keep is a share of a site's units in [0, 1), not {self.keep}")
        if self.refresh != "sweep" or self.watch == "certificate":
            raise SettingsError(
                "single sites are renewed by a sweep, and a drift certificate starts from masks that were "
                "all recorded at once: with keep use refresh='sweep' and watch='probe'"
            )
        if self.drift is not None and self.keep > self.drift:
            raise SettingsError(
                f"sites that keep their masks up to a drift of {self.keep} can alone exceed the limit of a "
                f"stroke, {self.drift}: set keep to drift or less"
            )

    def machine(self, given: Given) -> Alternator:
        """See `Alternation.start`."""
        return InstanceWiseAlternator(given, self)


class InstanceWiseAlternator(Alternator):
    """Warm-up, then rounds of one support stroke and one weight stroke.

    Of several processes each finds, stores and holds the supports of its own examples.
    """

    stores = True

    def __init__(self, given: Given, kind: InstanceWise) -> None:
        super().__init__(given)
        self.kind = kind
        model, source, processes = self.model, self.source, self.processes
        self.device = next(model.parameters()).device
        if kind.momentum == "reset" and self.optimizer is None:
            raise SettingsError("momentum='reset' needs the optimiser: start(..., optimizer=...)")
        check_replayable(source, samples=32)
        examples = len(source)
        draw = torch.Generator().manual_seed(self.seed)
        # the same number of examples for any number of processes
        self.probe = torch.randperm(examples, generator=draw)[: kind.probe].sort().values
        self.owned = processes.owned(examples)
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
            processes,
            self.device,
            Origin(model_fingerprint(model), data_fingerprint(source, self.seed), self.seed),
            note=self.notes.append,
        )
        # how many each batch norm had seen when its statistics were last looked at
        self._batches = batches_seen(model)
        self._certificate: DriftCertificate | None = None
        if kind.watch == "certificate":
            self._certify()  # what it cannot follow is refused before any work
        self._held: Held | None = None
        self._since: list[float] = []  # losses of the epochs of the weight stroke under way
        self._due = False  # a support stroke is due when the next epoch begins
        self._noting = False  # held steps write the masks of the next visit
        self._next_check = 0.0

    @property
    def needs_every_example(self) -> bool:
        """While an epoch records the masks."""
        return self.phase is Phase.RECORDING or (self._running and self.phase is Phase.HELD)

    # -- strokes -----------------------------------------------------------------------------

    def begin_epoch(self, epoch: int) -> None:
        """Begins a round when one is due: by a sweep here, or by recording the coming epoch."""
        super().begin_epoch(epoch)
        if self.round == 0:
            self.masks.check_vacant()  # before the warm-up, not after it
        kept_view = self.view
        if self.phase is Phase.LIVE and not self._due:
            self._due = self._warm(self.kind.warmup, epoch)
        if self._due:
            self._due = False
            self._since = []
            self.round += 1
            # a new view would belie masks that stay
            if self.round == 1 or not (self._running or self.kind.keep is not None):
                self._round_view = epoch
            if self.kind.momentum == "reset" and self.optimizer is not None:
                self.optimizer.state.clear()
            if self.kind.refresh == "sweep":
                self.sweep()
                if self.kind.watch == "certificate":
                    self._certify()
                self.phase = Phase.HELD
            elif self._running and self.round > 1 and self.phase is Phase.HELD:
                # the masks were noted while the last epoch ran
                self.masks.store.begin(self.round, self._round_view, keep=True)
                self._noting = True
            else:
                self.masks.store.begin(self.round, self._round_view)
                self.phase = Phase.RECORDING
        # a mask belongs to the view it was recorded from
        self.view = kept_view if self.phase is Phase.LIVE else self._round_view
        self._next_check = 1 / self.kind.checks

    @property
    def _running(self) -> bool:
        return self.kind.refresh == "running"

    def sweep(self, batch_size: int = 500) -> None:
        """Support stroke: record every example, in evaluation mode, without gradient."""
        start = time.perf_counter()
        self._estimate()
        moved = self._moved()
        drifts = []
        parts = self.owned.split(batch_size) if moved is None or moved else ()
        announce(self.source, parts, view=self._round_view, seed=self.seed)
        self.masks.store.begin(self.round, self._round_view, keep=True)
        for indices in parts:
            support = self._record(indices, self._round_view, moved)
            if moved is not None:
                support = self.masks.read(indices).renewed(support)
            if self.wants_example_drift and self.round > 1:
                drifts.append(self.masks.read(indices).drift_by_example(support).cpu())
            self.masks.write(indices, support)
        self.masks.store.publish()
        if self.wants_example_drift and self.round > 1:
            drift = torch.zeros(len(self.source))
            if drifts:
                drift[self.owned] = torch.cat(drifts)
            self.example_drift = self.processes.sum(drift)
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

    def _moved(self) -> list[Site] | None:
        """Sites that a sweep must write anew; None where it is all of them."""
        if self.kind.keep is None or self.round == 1:
            return None
        drift = self._measured().by_site
        return [site for site in self.masks.store.sites if drift[site] > self.kind.keep]

    def _measured(self) -> Share:
        """Drift of the probe: its held masks against what they would be now."""
        with self.processes.taking(self.probe) as probe:
            now = self._record(probe, self._round_view)
            return self.processes.whole(self.masks.read(probe).drift(now))

    def _certify(self) -> None:
        start = time.perf_counter()
        few = self.probe[:CERTIFIED]  # the same in every process, whoever owns them
        x, _ = self.source.batch(few, view=self.view, seed=self.seed)
        self._certificate = DriftCertificate(self.model, x.to(self.device))
        self.stroke_visits += len(few)
        self.stroke_seconds += time.perf_counter() - start

    def _record(self, indices: Tensor, view: int, only: Sequence[Site] | None = None) -> Support:
        x, _ = self.source.batch(indices, view=view, seed=self.seed)
        x = x.to(self.device)
        self.stroke_visits += len(indices) * (not self.processes.idle)
        kind = self.kind
        with evaluating(self.model), self.autocast():
            return record(
                self.model, x, rule=kind.rule, pooling=kind.pooling, gated=kind.gated, only=only
            )

    @contextmanager
    def step(self, indices: Tensor, progress: float = 0.0) -> Iterator[None]:
        """Live, recording, or held; asks for the drift first when it is time to."""
        limited = self.kind.drift is not None  # without a limit the end of the epoch is enough
        if limited and self.phase is Phase.HELD and progress >= self._next_check:
            self._next_check += 1 / self.kind.checks
            self._check_drift()
        if self.phase is Phase.HELD:
            support = self.masks.read(indices)
            kind = self.kind
            with hold(
                self.model,
                support,
                gated=kind.gated,
                penalty=kind.penalty > 0,
                record=self._running,
            ) as held:
                self._held = held
                yield
            if self._running and not self.processes.idle:
                self.masks.write(indices, held.recorded)
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

    def _check_drift(self, *, measured: bool = False) -> None:
        """Compare the held masks of the probe with what they would be now; end the stroke if need be."""
        start = time.perf_counter()
        certificate = self._certificate
        if certificate is not None and certificate.scale is not None and not measured:
            self.processes.same(self.model, buffers_only=True)
            self.drift = self.processes.whole(certificate.estimate())
        else:
            self.drift = self._measured()
            if certificate is not None:
                certificate.calibrate(self.drift)
        if self.kind.drift is not None and self.drift > self.kind.drift:
            self.phase, self._due = Phase.LIVE, True
        self.stroke_seconds += time.perf_counter() - start

    def end_epoch(self, loss: float) -> None:
        """Decides whether the weight stroke ends here."""
        super().end_epoch(loss)
        if self._noting:
            self.masks.store.publish()
            self._noting = False
        if self.phase is Phase.RECORDING:
            self.masks.store.publish()
            self.phase = Phase.HELD
            self._due = self._running  # the masks change from the next epoch's first step on
        elif self.phase is Phase.HELD:
            self._since.append(loss)
            self._check_drift(measured=True)
            over = self._running or len(self._since) >= self.kind.gap
            if self.kind.plateau is not None:
                over = over or self.kind.plateau.reached(self._since)
            self._due = self._due or over

    # -- looking at it -----------------------------------------------------------------------

    def held_network(self, indices: Tensor) -> AbstractContextManager[Any] | None:
        """The network under the stored masks of these examples."""
        support = self.held_support(indices)
        return None if support is None else hold(self.model, support, gated=self.kind.gated)

    def held_support(self, indices: Tensor) -> Support | None:
        """Stored masks of these examples, those of the last support stroke."""
        if self.round == 0 or self.phase is Phase.RECORDING:
            return None
        return self.masks.read(indices)

    def stroke_over(self) -> bool:
        """Whether the drift limit is reached; measures the drift of the probe."""
        if self.kind.drift is not None and self.phase is Phase.HELD:
            self._check_drift()
        return self.phase is not Phase.HELD

    def state(self) -> tuple[dict[str, Any], Support | None]:
        """Adds the stroke under way, and the stored masks or, in a file's case, what they are."""
        values, _ = super().state()
        values |= {"since": list(self._since), "due": self._due, "batches": self._batches}
        if self.round == 0:
            return values, None
        values["round_view"] = self._round_view
        references = self.masks.references()
        if references is None:
            return values, self.masks.store.whole()
        return values | {"store": references}, None

    def tensors(self) -> dict[str, Tensor]:
        """The drift certificate of the stroke under way."""
        return {} if self._certificate is None else self._certificate.tensors()

    def saved(self) -> None:
        """Files of rounds that only earlier checkpoints refer to are deleted."""
        self.masks.settle()

    def restore(
        self, values: Mapping[str, Any], support: Support | None, tensors: Mapping[str, Tensor]
    ) -> None:
        """Go on from what `state` and `tensors` gave."""
        self._round_view = int(values.get("round_view", 0))
        self.masks.restore(int(values["round"]), self._round_view, values.get("store", []), support)
        super().restore(values, support, tensors)
        if self._certificate is not None and tensors:
            self._certificate.restore(tensors)
        self._since = [float(loss) for loss in values["since"]]
        self._due = bool(values["due"])
        self._batches = {str(name): int(count) for name, count in values["batches"].items()}

    def close(self) -> None:
        """Give back the store's files and threads; what no checkpoint refers to is deleted."""
        self.masks.close()
