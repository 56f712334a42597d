"""Batch-wise alternation: one mask for each mini-batch, made on the fly (B-alternation, §4.2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..errors import SettingsError
from ..processes import Processes
from ..support import BatchEnergy, MajorityVote, Rule, hold
from .alternator import Alternation, Alternator, Given, Phase, check_warmup
from .plateau import Plateau


@dataclass(frozen=True, kw_only=True)
class BatchWise(Alternation):
    """One mask for each mini-batch, made on the fly (the paper's B-alternation, §4.2)."""

    name = "batch-wise alternation"

    warmup: int | Plateau = 0
    """Epochs of ordinary training first, or a plateau to wait for."""
    density: float | None = None
    """Share of the units that eq. 41 keeps; left out, 0.9."""
    rule: Rule | None = None
    """How the batch's mask is made, instead of by eq. 41, with a density of its own."""
    gated: bool = True
    """`m ∘ ReLU(q)`: the mask stands on top of the activation. Without it the paper is taken literally: `m ∘ q`
    is linear over the batch, and useless as a network (78 % error where SGD has 2.9 %)."""

    def __post_init__(self) -> None:
        check_warmup(self.warmup)
        if self.density is not None and self.rule is not None:
            raise SettingsError("a rule has a density of its own: give density or rule")
        if self.density is not None and not 0 < self.density <= 1:
            raise SettingsError(f"density is a share of units above 0, up to 1, not {self.density}")

    def mask_rule(self) -> Rule:
        """The rule that is applied."""
        if self.rule is not None:
            return self.rule
        return BatchEnergy(density=0.9 if self.density is None else self.density)

    def machine(self, given: Given) -> Alternator:
        """See `Alternation.start`."""
        return BatchWiseAlternator(given, self)


class BatchWiseAlternator(Alternator):
    """After the warm-up every batch is masked by its own rule, on the fly.

    Several processes make one mask of the whole batch's energy, so that they give what one would.
    """

    whole_batch = True
    pausable = True

    def __init__(self, given: Given, kind: BatchWise) -> None:
        super().__init__(given)
        self.kind = kind
        self.rule = _over(self.processes, kind.mask_rule())

    def begin_epoch(self, epoch: int) -> None:
        """Ends the warm-up when it is time."""
        super().begin_epoch(epoch)
        if self.phase is Phase.LIVE and self._warm(self.kind.warmup, epoch):
            self.phase, self.round = Phase.HELD, 1

    @contextmanager
    def step(self, indices: Tensor, progress: float = 0.0) -> Iterator[None]:
        """Hold by rule once warm."""
        self._check_step(progress)
        if self.phase is Phase.LIVE:
            yield
        else:
            with hold(self.model, self.rule, gated=self.kind.gated):
                yield

    def rehearsal(
        self,
        x: Tensor,  # (batch, ...)
    ) -> Iterator[tuple[str, AbstractContextManager[Any]]]:
        """Live, and held by rule."""
        yield from super().rehearsal(x)
        yield "held", hold(self.model, self.rule, gated=self.kind.gated)

    def held_network(self, indices: Tensor) -> AbstractContextManager[Any] | None:
        """The network under the masks of these examples as one batch."""
        return (
            None if self.phase is Phase.LIVE else hold(self.model, self.rule, gated=self.kind.gated)
        )


def _over(processes: Processes, rule: Rule) -> Rule:
    """The rule, for a batch that the processes share."""
    if processes.count == 1 or not getattr(rule, "shared", False):
        return rule
    if isinstance(rule, BatchEnergy | MajorityVote):
        return replace(rule, total=processes.total)
    raise SettingsError(
        f"{type(rule).__name__} gives one mask to a whole batch, which {processes.count} processes "
        "share: use BatchEnergy or MajorityVote, which add up over processes, or train in one"
    )
