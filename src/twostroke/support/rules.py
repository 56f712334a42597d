"""Rules: closed forms that turn pre-activations into a mask (paper §3.1 and §4).

A rule is called with `q` (batch, ...) and returns a bool mask of shape (batch, ...), or (1, ...) if it gives
one mask to the whole batch. How much it keeps is given in one of two ways: by the paper's threshold or
price, or by `density`, the share of units to keep, of which the price is a quantile. A rule for single
examples takes the quantile within each example, so that a mask does not depend on the rest of the batch.

The paper's β means two things, which have two names here: `beta` is a threshold on `q` (eq. 9, 12), `price` is
what a unit that is on costs in an ℓ0 objective (eq. 11, 36, 39). They differ: eq. 11, with its factor 2, is
minimised by `q > sqrt(2 price)`, not by eq. 9 with β = price as the paper says; see
`PositiveThreshold.from_price`.
"""
# ruff: noqa: D102 (what a rule does when called is said by its class)

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import SettingsError
from . import bits, kernels
from .activations import Activation
from .hard_threshold import as_channels, wide

# adds up what processes that share a batch have summed over their examples, and their number
Total = Callable[[Tensor, int], tuple[Tensor, float | Tensor]]


@runtime_checkable
class Rule(Protocol):
    """Anything that makes a mask from a pre-activation.

    A rule that gives one mask to a whole batch says so by a class attribute `shared = True`.
    """

    def __call__(self, q: Tensor) -> Tensor:
        """Mask for `q` (batch, ...): bool, (batch, ...) or (1, ...)."""
        ...


def mask_of(rule: Rule, q: Tensor) -> Tensor:
    """`rule(q)`. Raises `SettingsError` where the result is not a mask for `q`."""
    mask = rule(q)
    if (
        not isinstance(mask, Tensor)
        or mask.dtype != torch.bool
        or mask.shape[1:] != q.shape[1:]
        or len(mask) not in (1, len(q))
    ):
        what = f"{mask.dtype} of {tuple(mask.shape)}" if isinstance(mask, Tensor) else repr(mask)
        raise SettingsError(
            f"the rule {rule!r} gave {what:.200} for a pre-activation of {tuple(q.shape)}: a mask "
            "is a bool tensor of that shape, or with a 1 for the batch"
        )
    return mask


def planes_of(rule: Rule, act: Activation) -> list[Tensor]:
    """Packed planes of one call, (batch or 1, bytes) uint8 each, for the mask that `rule` makes."""
    return [bits.pack(mask) for mask in act.ruled(mask_of(rule, act.q))]


def _check(name: str, value: float | Tensor | None, density: float | None) -> None:
    if (value is None) == (density is None):
        raise SettingsError(f"give either {name} or density, one of the two")
    if density is not None and not 0 <= density <= 1:
        raise SettingsError(f"density is a share of units between 0 and 1, not {density}")


def _exceeds(score: Tensor, limit: float | Tensor | None, q: Tensor) -> Tensor:
    assert limit is not None  # see _check
    return score > as_channels(limit, q)


def _keep_share(
    score: Tensor,  # (rows, ...)
    density: float,
) -> Tensor:
    """Mask of the `round(density * units)` largest scores of each row; of equal ones fewer."""
    rows = wide(score.flatten(1))
    units = rows.shape[1]
    drop = units - round(density * units)
    if drop == 0:
        return torch.ones_like(score, dtype=torch.bool)
    price = rows.kthvalue(drop, dim=1, keepdim=True).values
    return (rows > price).view(score.shape)


def _energy(q: Tensor) -> Tensor:  # (batch, ...) to (1, ...)
    """`Σₙ qₙ²`, in single precision at least and without a tensor of squares.

    Its last digit may depend on the device, and on whether the kernels are there.
    """
    precise = torch.promote_types(q.dtype, torch.float32)
    if kernels.adds_up(q):
        return kernels.energy(q)
    if not q.is_cpu:
        norm: Tensor = torch.linalg.vector_norm(q, dim=0, keepdim=True, dtype=precise)
        return norm.square()
    # PyTorch's norm over the first dimension goes from number to number here: fifty times as long
    energy = torch.zeros_like(q[:1], dtype=precise)
    for example in q.split(1):
        wide_ = example.to(precise)
        energy.addcmul_(wide_, wide_)
    return energy


@dataclass(frozen=True, eq=False)
class PositiveThreshold:
    """On where `q > beta` (eq. 9, 12); `beta` a number or (channels,).

    With `beta = 0` it is what ReLU does. It minimises eq. 11, `(q - p)² + 2 price [p ≠ 0]` over
    `p >= 0`, for `price = beta² / 2`. With `keep`, each example keeps that share of the units that
    ReLU would keep, the largest: eq. 38 read with x as what ReLU passes on.
    """

    beta: float | Tensor | None = None
    density: float | None = None
    keep: float | None = None

    def __post_init__(self) -> None:
        if self.keep is None:
            _check("beta", self.beta, self.density)
        elif self.beta is not None or self.density is not None or not 0 <= self.keep <= 1:
            raise SettingsError("keep is a share between 0 and 1, given alone")

    @classmethod
    def from_price(cls, price: float) -> PositiveThreshold:
        """The minimiser of eq. 11 for an ℓ0 price: threshold `sqrt(2 price)`."""
        if price < 0:
            raise SettingsError(f"a price must not be negative, as {price} is")
        return cls(math.sqrt(2 * price))

    def __call__(self, q: Tensor) -> Tensor:
        if self.density is not None:
            return _keep_share(q, self.density)
        if self.keep is not None:
            ranked = q.flatten(1).sort(dim=1, descending=True).values
            last = (self.keep * (ranked > 0).sum(1, keepdim=True)).round().long()
            after = torch.nn.functional.pad(ranked, (0, 1)).gather(1, last)  # first one not kept
            return q > after.clamp(min=0).view(-1, *[1] * (q.ndim - 1))
        return _exceeds(q, self.beta, q)


@dataclass(frozen=True, eq=False)
class Energy:
    """On where `q² > price` (eq. 38): minimises `(q - m q)² + price m` over m in {0, 1} (eq. 36).

    Unlike ReLU it also keeps large negative values.
    """

    price: float | Tensor | None = None
    density: float | None = None

    def __post_init__(self) -> None:
        _check("price", self.price, self.density)

    def __call__(self, q: Tensor) -> Tensor:
        if self.density is not None:
            return _keep_share(q.abs(), self.density)  # ranks as q² does, and cannot overflow
        return _exceeds(q.square(), self.price, q)


@dataclass(frozen=True, eq=False)
class BatchEnergy:
    """One mask for the batch: on where the mean of `q²` over it exceeds `price` (eq. 41, over N).

    The minimiser of eq. 39 divided by N, so that the price means the same for every batch size.
    `total` makes the batch that of several processes: it gets `Σ q²` of this process's examples,
    (1, ...), and their number, and returns the sums of both over all processes.
    """

    price: float | Tensor | None = None
    density: float | None = None
    total: Total | None = None
    shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check("price", self.price, self.density)

    def __call__(self, q: Tensor) -> Tensor:
        energy = _energy(q.detach())
        examples: float | Tensor = q.shape[0]
        if self.total is not None:
            energy, examples = self.total(energy, q.shape[0])
        energy = energy / examples
        if self.density is not None:
            return _keep_share(energy, self.density)
        return _exceeds(energy, self.price, q)


@dataclass(frozen=True, eq=False)
class MajorityVote:
    """One mask for the batch: on where more than half of the examples have `q > beta` (§4.2).

    `total` is that of `BatchEnergy`, of votes.
    """

    beta: float | Tensor = 0.0
    total: Total | None = None
    shared: ClassVar[bool] = True

    def __call__(self, q: Tensor) -> Tensor:
        votes = (q > as_channels(self.beta, q)).sum(0, keepdim=True)
        voters: float | Tensor = q.shape[0]
        if self.total is not None:
            votes, voters = self.total(votes, q.shape[0])
        return 2 * votes > voters
