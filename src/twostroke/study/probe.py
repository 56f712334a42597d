"""Supports over training: a listener that records some inputs after epochs, and two runs side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..errors import SettingsError
from ..runs import EpochRecord
from ..support import Share, Site, Support, bits
from ..support import record as record_batch
from ..support.modes import evaluating
from ..support.sites import BySite
from ..training import Listener
from .distances import pairs, refuse_shared
from .units import transposed


class Probe(Listener):
    """Records the supports of `x` (batch, ...) after epochs; give it to `fit` as `listener`.

    `model` is the one that is trained; it is recorded in evaluation mode. `when(epoch)` chooses epochs; all
    by default. `supports` has them by epoch, packed: 100 images and 100,000 units take 1.2 MB an epoch.
    """

    def __init__(
        self, model: nn.Module, x: Tensor, *, when: Callable[[int], bool] = lambda _: True
    ) -> None:
        self.model, self.x, self.when = model, x, when
        self.supports: dict[int, Support] = {}

    def epoch(self, record: EpochRecord) -> None:
        """Record, if this epoch was chosen."""
        if self.when(record.epoch):
            with evaluating(self.model):
                device = next(self.model.parameters()).device
                self.supports[record.epoch] = record_batch(self.model, self.x.to(device)).to("cpu")

    def drift(self) -> dict[int, Share]:
        """Share of units on another side than at the recorded epoch before, by epoch, but for the first."""
        epochs = list(self.supports)
        return {b: self.supports[a].drift(self.supports[b]) for a, b in pairwise(epochs)}

    def settled(self) -> BySite[Tensor]:
        """The first recorded epoch since which each unit keeps its side: (examples, *site.shape) by site.

        What still changed at the last epoch has that one. Raises `SettingsError` where nothing was recorded.
        """
        if not self.supports:
            raise SettingsError("nothing was recorded: give it to fit(listener=probe) first")
        epochs = list(self.supports)
        first = self.supports[epochs[0]]
        since = BySite((s, torch.full((len(first), *s.shape), epochs[0])) for s in first.sites)
        for a, b in pairwise(epochs):
            for site, packed in self.supports[a].differing(self.supports[b]).items():
                since[site][bits.unpack(packed, site.shape)] = b
        return since


@dataclass(frozen=True)
class Matched:
    """Two networks' units, matched by their sides on the same examples.

    partner: for each channel of the first network that of the second, (channels,) by site.
    equal: share of equal masks under that matching.
    unmatched: the same with units as they are numbered.
    """

    partner: BySite[Tensor]
    equal: Share
    unmatched: Share


def match(a: Support, b: Support) -> Matched:
    """Share of equal masks of two networks on the same examples, under the best matching of units.

    A channel is matched as a whole, all its places with those of its partner; in a layer without places a
    unit is a channel. The matching is optimal for each site (scipy, extra `study`).

    Raises `SupportMismatchError` for other sites or numbers of examples, and for a shared support.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise SettingsError("matching units needs scipy: pip install 'twostroke[study]'") from None
    refuse_shared(a)
    refuse_shared(b)
    unmatched = a.drift(b)  # which refuses what does not fit
    partner: BySite[Tensor] = BySite()
    equal: dict[Site, int] = {}
    for site in a.sites:
        if site.kind == "max_pool":
            continue
        channels = site.shape[0]
        x, y = (transposed(s, site, channels) for s in (a, b))
        differ = torch.zeros(channels, channels, dtype=torch.int32, device=a.device)
        pairs(x, y.to(x.device), differ)
        rows, columns = linear_sum_assignment(differ.cpu().numpy())
        partner[site] = torch.from_numpy(columns)
        equal[site] = site.units * len(a) - int(differ.cpu().long()[rows, columns].sum())
    units = {s: s.units * len(a) for s in equal}
    same = {s: units[s] - unmatched.counts[s] for s in equal}
    return Matched(partner, Share.of(equal, units), Share.of(same, units))
