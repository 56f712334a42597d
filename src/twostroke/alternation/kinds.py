"""The kinds of alternation, as settings: plain, checked at construction, the same in code and command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from torch import nn
from torch.optim import Optimizer

from ..errors import SettingsError
from ..support import BatchEnergy, Rule
from .ends import Plateau

if TYPE_CHECKING:
    from ..data import ExampleSource
    from .alternator import Alternator


class Alternation(Protocol):
    """A kind of alternation; `start` makes the state machine for one training run."""

    def start(
        self,
        model: nn.Module,
        source: ExampleSource,
        *,
        seed: int = 0,
        optimizer: Optimizer | None = None,
    ) -> Alternator:
        """Begin with a model and the examples it will be trained on."""
        ...


def _check(warmup: int | Plateau, momentum: str) -> None:
    if isinstance(warmup, int) and warmup < 0:
        raise SettingsError(f"warmup is a number of epochs, 0 or more, not {warmup}")
    if momentum not in ("keep", "reset"):
        raise SettingsError(f"momentum is 'keep' or 'reset' at a stroke's end, not {momentum!r}")


@dataclass(frozen=True, kw_only=True)
class Live:
    """No alternation: ordinary training through the same loop, for fair comparisons."""

    def start(
        self,
        model: nn.Module,
        source: ExampleSource,
        *,
        seed: int = 0,
        optimizer: Optimizer | None = None,
    ) -> Alternator:
        """Begin; see `Alternation`."""
        from .alternator import LiveAlternator

        return LiveAlternator(model, source, seed, optimizer)


@dataclass(frozen=True, kw_only=True)
class InstanceWise:
    """One mask for each example, held for whole epochs (the paper's I-alternation, §4.1).

    warmup: epochs of ordinary training first, or a `Plateau` to wait for; masks of a random network
        mean nothing.
    gap: a weight stroke's length in epochs at most.
    plateau: end a weight stroke also when its loss no longer falls (the paper's criterion).
    drift: end it also when this share of the units of `probe` examples has changed sides, asked
        `checks` times an epoch; the rest of the epoch then runs live. None holds regardless, which at
        a large learning rate lets held and live network part for good.
    refresh: "sweep" visits every example in a pass without gradient; "online" records while an
        ordinary epoch runs, which costs no pass but gives masks up to an epoch old.
    rule: closed form of the mask; None is what the activation itself does.
    gated: hold `m ∘ ReLU(q)` instead of `m ∘ q`.
    penalty: weight of the term that keeps pre-activations on their held side (0: none).
    momentum: what becomes of the optimiser's state at a support stroke, "keep" or "reset".
    pooling: hold the argmax of max pooling too.
    """

    warmup: int | Plateau = 2
    gap: int = 2
    plateau: Plateau | None = None
    drift: float | None = 0.08
    probe: int = 256
    checks: int = 4
    refresh: Literal["sweep", "online"] = "sweep"
    rule: Rule | None = None
    gated: bool = False
    penalty: float = 0.0
    momentum: Literal["keep", "reset"] = "keep"
    pooling: bool = False

    def __post_init__(self) -> None:
        _check(self.warmup, self.momentum)
        if self.gap < 1:
            raise SettingsError(f"gap is a number of epochs, 1 or more, not {self.gap}")
        if self.drift is not None and not 0 < self.drift <= 1:
            raise SettingsError(f"drift is a share of units, above 0 and up to 1, not {self.drift}")
        if self.probe < 1 or self.checks < 1:
            raise SettingsError(f"probe and checks are 1 or more, not {self.probe}, {self.checks}")
        if self.refresh not in ("sweep", "online"):
            raise SettingsError(f"refresh is 'sweep' or 'online', not {self.refresh!r}")
        if self.refresh == "online" and self.rule is not None:
            raise SettingsError(
                "an online support stroke records what the activations do while they train: with a "
                "rule of your own use refresh='sweep'"
            )
        if not self.penalty >= 0:
            raise SettingsError(f"penalty is a weight, 0 or more, not {self.penalty}")
        if getattr(self.rule, "shared", False):
            raise SettingsError(
                f"{type(self.rule).__name__} gives one mask to a whole batch: use BatchWise with it"
            )

    def start(
        self,
        model: nn.Module,
        source: ExampleSource,
        *,
        seed: int = 0,
        optimizer: Optimizer | None = None,
    ) -> Alternator:
        """Begin; see `Alternation`."""
        from .alternator import InstanceWiseAlternator

        return InstanceWiseAlternator(model, source, seed, optimizer, self)


@dataclass(frozen=True, kw_only=True)
class BatchWise:
    """One mask for each mini-batch, made on the fly (the paper's B-alternation, §4.2).

    warmup: epochs of ordinary training first, or a `Plateau` to wait for.
    rule: how the batch's mask is made, eq. 41 by default, which keeps `density` of the units.
    gated: `m ∘ ReLU(q)`, the mask on top of the activation. `gated=False` is the paper taken
        literally, `m ∘ q`: linear over the batch, and useless as a network (78 % error where SGD
        has 2.9 %); it is here to be looked at.
    """

    warmup: int | Plateau = 0
    density: float = 0.9
    rule: Rule | None = None
    gated: bool = True

    def __post_init__(self) -> None:
        _check(self.warmup, "keep")
        if not 0 < self.density <= 1:
            raise SettingsError(f"density is a share of units above 0, up to 1, not {self.density}")

    def mask_rule(self) -> Rule:
        """The rule that is applied."""
        return self.rule if self.rule is not None else BatchEnergy(density=self.density)

    def start(
        self,
        model: nn.Module,
        source: ExampleSource,
        *,
        seed: int = 0,
        optimizer: Optimizer | None = None,
    ) -> Alternator:
        """Begin; see `Alternation`."""
        from .alternator import BatchWiseAlternator

        return BatchWiseAlternator(model, source, seed, optimizer, self)
