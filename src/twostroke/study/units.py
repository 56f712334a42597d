"""What single units do over many examples: how often they are on, for which class, and together with which.

Max pooling has no units that are on or off, and is left out. A clamp is on where it is linear.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..data.checks import check_labels
from ..errors import DataError, SettingsError
from ..support import Site, Support, bits
from ..support.sites import BySite
from ..theory.operator import DENSE_LIMIT, refuse_above
from .distances import pairs, refuse_shared, words


class Telling(NamedTuple):
    """A unit, and how often it is on for one class and for the other (0 to 1)."""

    site: Site
    unit: tuple[int, ...]
    first: float
    second: float


def counts(support: Support) -> BySite[Tensor]:
    """For how many examples each unit is on: (*site.shape) int64 by site."""
    refuse_shared(support)
    return BySite((s, _count(support, s)) for s in support.sites if s.kind != "max_pool")


def dead(support: Support) -> BySite[Tensor]:
    """Units that are on for no example: (*site.shape) bool by site."""
    return BySite((s, n == 0) for s, n in counts(support).items())


def always_on(support: Support) -> BySite[Tensor]:
    """Units that are on for every example: (*site.shape) bool by site."""
    return BySite((s, n == len(support)) for s, n in counts(support).items())


def entropy(support: Support) -> BySite[Tensor]:
    """What each unit's side tells, in bits: (*site.shape) float64 by site; 1 where it is on half the time."""

    def of(n: Tensor) -> Tensor:
        p = n.double() / max(1, len(support))
        return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / torch.log(torch.tensor(2.0))

    return BySite((s, of(n)) for s, n in counts(support).items())


def by_class(
    support: Support,
    labels: Tensor,  # (examples,) integer
) -> BySite[Tensor]:
    """How often each unit is on for each class: (classes, *site.shape) float64 by site, 0 to 1.

    A class without examples gets NaN. Raises `DataError` for labels that do not fit.
    """
    labels = check_labels(labels, len(support)).cpu()
    if not len(labels):
        raise DataError("there are no examples, and so no classes")
    classes = int(labels.max()) + 1
    parts = []
    for k in range(classes):
        which = (labels == k).nonzero().flatten()
        parts.append({s: n / len(which) for s, n in counts(support[which]).items()})
    return BySite((s, torch.stack([p[s] for p in parts]).double()) for s in parts[0])


def telling(shares: BySite[Tensor], first: int, second: int, *, k: int = 10) -> list[Telling]:
    """The `k` units that tell two classes apart best, by the difference of `by_class`'s shares."""
    found = []
    for site, share in shares.items():
        for c in (first, second):
            if not 0 <= c < len(share):
                raise SettingsError(f"class {c}: there are the classes 0 to {len(share) - 1}")
        one, two = share[first].flatten(), share[second].flatten()
        for u in (one - two).abs().topk(min(k, len(one))).indices.tolist():
            place = tuple(int(i) for i in torch.unravel_index(torch.tensor(u), site.shape))
            found.append(Telling(site, place, float(one[u]), float(two[u])))
    return sorted(found, key=lambda t: -abs(t.first - t.second))[:k]


def coactivation(
    support: Support, site: str | Site, *, limit_bytes: int = DENSE_LIMIT
) -> Tensor:  # (units, units) int32
    """For how many examples two units of a site are on together; the diagonal has single units.

    Raises `TooLargeError` where the matrix would exceed `limit_bytes`.
    """
    refuse_shared(support)
    site = support.site(site)
    refuse_above(
        limit_bytes,
        4 * site.units**2,
        f"{site.key}: {site.units} × {site.units} counts",
        "take another site",
    )
    rows = transposed(support, site, site.units)
    out = torch.zeros(site.units, site.units, dtype=torch.int32, device=support.device)
    pairs(rows, rows, out)
    single = _count(support, site).flatten().int()
    # |a ∧ b| = (|a| + |b| - |a xor b|) / 2
    return (single[:, None] + single - out) // 2


def transposed(support: Support, site: Site, rows: int) -> Tensor:  # (1, rows, words) int64
    """A site's bits with units as rows: each of `rows` has its places of all examples."""
    parts = [
        bits.pack(support[part][site].view(len(part), rows, -1).transpose(0, 1))
        for part in torch.arange(len(support)).split(
            512
        )  # a multiple of eight: bytes meet seamlessly
    ]
    return words(torch.cat(parts, 1))[None]


def _count(support: Support, site: Site) -> Tensor:
    total = torch.zeros(site.units, dtype=torch.int64, device=support.device)
    for packed in support.planes(site)[0].split(255):  # a byte counts so far
        bytes_ = bits.unpack(packed, (8 * packed.shape[1],))
        # eight units at once, one in each byte of a word
        total += bytes_.view(torch.int64).sum(0).view(torch.uint8)[: site.units]
    return total.view(site.shape)
