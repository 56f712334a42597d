"""Slow supports: the held mask is that of an average of the weights, which lags behind."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..errors import SettingsError
from ..support import Support, hold, record
from .alternator import Alternation, Alternator, Given, Phase, check_warmup
from .ends import Plateau
from .statistics import normalising_like


@dataclass(frozen=True, kw_only=True)
class SlowSupport(Alternation):
    """Hold, for each batch, the support that an exponential average of the weights gives it.

    A third kind beside the paper's two: nothing is stored, and nothing is held for epochs. The
    support lags behind the weights by about `1 / (1 - decay)` steps. It
    costs a forward pass without gradient at every step, for which the batch is fetched once more.

    decay: share of the average that stays at each step.
    warmup: epochs of ordinary training first, or a `Plateau` to wait for.
    gated: hold `m ∘ ReLU(q)` instead of `m ∘ q`.
    """

    decay: float = 0.98
    warmup: int | Plateau = 0
    gated: bool = False

    def __post_init__(self) -> None:
        check_warmup(self.warmup)
        if not 0 <= self.decay < 1:
            raise SettingsError(f"decay is a share in [0, 1), not {self.decay}")

    def machine(self, given: Given) -> Alternator:
        """See `Alternation.start`."""
        return SlowSupportAlternator(given, self)


class SlowSupportAlternator(Alternator):
    """Keeps the average and records each batch with it."""

    def __init__(self, given: Given, kind: SlowSupport) -> None:
        super().__init__(given)
        self.kind = kind
        self.device = next(self.model.parameters()).device
        self.average = AveragedModel(
            self.model, multi_avg_fn=get_ema_multi_avg_fn(kind.decay), use_buffers=True
        ).eval()
        # what cannot be held is refused before any work
        self._record(self.average.module, self._fetch(torch.arange(1)))

    def begin_epoch(self, epoch: int) -> None:
        """Ends the warm-up when it is time."""
        super().begin_epoch(epoch)
        if self.phase is Phase.LIVE and self._warm(self.kind.warmup, epoch):
            self.phase, self.round = Phase.HELD, 1

    def _fetch(self, indices: Tensor) -> Tensor:
        x, _ = self.source.batch(indices, view=self.view, seed=self.seed)
        return x.to(self.device)

    def _record(self, network: nn.Module, x: Tensor) -> Support:
        with normalising_like(network, self.model), self.autocast():
            return record(network, x, gated=self.kind.gated)

    @contextmanager
    def _counted(self, visits: int) -> Iterator[None]:
        """Count a support stroke or a drift check: its time, and the examples that it runs forward."""
        start = time.perf_counter()
        yield
        self.stroke_seconds += time.perf_counter() - start
        self.stroke_visits += visits * (not self.processes.idle)

    @contextmanager
    def step(self, indices: Tensor, progress: float = 0.0) -> Iterator[None]:
        """Hold what the average says of these examples."""
        if self.phase is Phase.LIVE:
            yield
            return
        with self._counted(len(indices)):
            support = self._record(self.average.module, self._fetch(indices))
        with hold(self.model, support, gated=self.kind.gated):
            yield

    def after_step(self) -> None:
        """Move the average."""
        self.average.update_parameters(self.model)

    def end_epoch(self, loss: float) -> None:
        """Measures how far the average's support is from the live one, on the first examples."""
        super().end_epoch(loss)
        if self.phase is Phase.HELD:
            self.processes.same(self.average, buffers_only=True)
            first = torch.arange(min(256, len(self.source)))
            with self.processes.taking(first, owned=False) as some:
                with self._counted(2 * len(some)):
                    x = self._fetch(some)
                    slow, live = (self._record(n, x) for n in (self.average.module, self.model))
                self.drift = self.processes.whole(slow.drift(live))

    def held_network(self, indices: Tensor) -> AbstractContextManager[Any] | None:
        """The network under the average's masks of these examples."""
        if self.phase is Phase.LIVE:
            return None
        support = self._record(self.average.module, self._fetch(indices))
        return hold(self.model, support, gated=self.kind.gated)

    def tensors(self) -> dict[str, Tensor]:
        """The average, for a checkpoint."""
        return dict(self.average.state_dict())

    def restore(
        self, values: Mapping[str, Any], support: Support | None, tensors: Mapping[str, Tensor]
    ) -> None:
        """Go on from what `state` and `tensors` gave."""
        super().restore(values, support, tensors)
        self.average.load_state_dict(dict(tensors))
