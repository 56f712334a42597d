"""The regions that a line between two inputs crosses, exactly.

Site by site: where all sites before are on one piece, a pre-activation is affine along the line, and its values
at the two ends say where it switches. These points cut the line for the next site, and nothing is sampled.
The network runs once at each point.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..support import Site, Support, bits, record
from ..support.activations import Activation, MaxPool
from .margins import TOLERANCE, checked, look, margins_of

_CHUNK = 256  # points of a forward pass
_NUMBERS = 1 << 26  # that are kept of points at a time


class Switch(NamedTuple):
    """A unit that changes sides, at `t` between 0 and 1.

    `on` says whether it is on afterwards; None for max pooling, which has another argmax.
    """

    t: float
    site: Site
    unit: tuple[int, ...]
    on: bool | None


@dataclass(frozen=True)
class Line:
    """Regions between two inputs, `a + t (b - a)`: region i lies between `t[i]` and `t[i + 1]`.

    t: (regions + 1,) float64, from 0 to 1.
    support: the pattern of each region, max pooling included.
    """

    t: Tensor
    support: Support

    @property
    def regions(self) -> int:
        """How many regions are crossed."""
        return len(self.support)

    @cached_property
    def switches(self) -> list[Switch]:
        """Every unit that switches, in the order of the line."""
        found = []
        before, after = self.support[:-1], self.support[1:]
        for site, packed in before.differing(after).items():
            on = after[site]
            for wall, *unit in bits.unpack(packed, site.shape).nonzero().tolist():
                side = None if site.kind == "max_pool" else bool(on[wall, *unit])
                found.append(Switch(float(self.t[wall + 1]), site, tuple(unit), side))
        return sorted(found, key=lambda s: s.t)


def line(
    model: nn.Module,
    a: Tensor,  # one input, without the batch
    b: Tensor,  # the same shape
) -> Line:
    """All regions on the line from `a` to `b`, and where they meet.

    The network is in evaluation mode and float64, and continuous: ReLU, leaky ReLU, PReLU, clamps such as
    ReLU6, max pooling. Points of the line are mixtures of its ends, so that it stays within any convex
    domain, such as images of 0 to 1. Walls that are nearer to each other than about 1e-12 of the line are
    one. Time grows with sites × regions.

    Raises `SettingsError` for other types than float64, inputs that are not finite or not alike, and layers
    in training mode; `UnholdableError` for a model without sites, or with others.
    """
    sites = checked(model, a, b, pooling=True)
    walls = _walls(model, sites, a, b, 0.0, 1.0)
    t = torch.cat([walls, walls.new_ones(1)])
    t = torch.cat([t[:1], t[1:][t.diff() > TOLERANCE]])
    t[-1] = 1.0
    middle = (t[:-1] + t[1:]) / 2
    parts = [record(model, _at(a, b, m), pooling=True) for m in middle.split(_CHUNK)]
    support = Support.cat(parts)
    # a point where nothing switches, such as one that was a wall before rounding
    real = (support.rows[1:] != support.rows[:-1]).any(1)
    inner = torch.cat([real.new_ones(1), real])
    return Line(t[torch.cat([inner, real.new_ones(1)])], support[inner.nonzero().flatten()])


def _at(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Points of the line: (points, *input)."""
    t = t.view(-1, *[1] * a.ndim)
    return (1 - t) * a + t * b


def _walls(
    model: nn.Module, sites: list[Site], a: Tensor, b: Tensor, low: float, high: float
) -> Tensor:
    """Points from `low` on, below `high`, between which no unit switches."""
    t = torch.tensor([low, high], dtype=torch.float64, device=a.device)
    seen = look(model, sites, _at(a, b, t), _see)
    for site in sites:
        while len(new := _zeros(t, seen[0], site)):
            if (len(t) + len(new)) * sum(q[0].numel() for q in seen) > _NUMBERS:  # a half at a time
                ends = (low, (low + high) / 2, high)
                return torch.cat([_walls(model, sites, a, b, *ends[i : i + 2]) for i in (0, 1)])
            more = [look(model, sites, _at(a, b, part), _see) for part in new.split(_CHUNK)]
            t, order = torch.cat([t, new]).sort()
            seen = [
                torch.cat([old, *some])[order]
                for old, *some in zip(seen, *(m[-len(seen) :] for m in more), strict=True)
            ]
            if site.kind != "max_pool":  # where an argmax may give way to a third one in between
                break
        del seen[0]
    return t[:-1]


def _see(act: Activation) -> Tensor:
    """Margins; of max pooling the argmax and all that it is chosen from, (batch, planes, both)."""
    if not isinstance(act, MaxPool):
        return margins_of(act)
    parts = act.index.flatten(-act.dims).double(), act.q.detach().flatten(-act.dims)
    return torch.cat(parts, -1)


def _zeros(t: Tensor, seen: Tensor, site: Site) -> Tensor:
    """Where units of a site switch, given what was seen of it at `t`."""
    if site.kind != "max_pool":
        return _between(t, seen[:-1], seen[1:])
    outputs = site.units // site.shape[0]
    index, q = seen[..., :outputs].long(), seen[..., outputs:]
    first, second = index[:-1], index[1:]  # which are equal where one gives way to the other
    ends = [(e.gather(-1, first) - e.gather(-1, second)).flatten(1) for e in (q[:-1], q[1:])]
    return _between(t, *ends)


def _between(t: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Zeros within the stretches, of margins (stretches, units) at their two ends."""
    least = TOLERANCE * float(torch.maximum(left.abs().max(), right.abs().max()))
    cross = ((left > least) & (right < -least)) | ((left < -least) & (right > least))
    where, _ = cross.nonzero(as_tuple=True)
    one, two = left[cross], right[cross]
    found = t[where] + (t[1:] - t[:-1])[where] * (one / (one - two))
    near = torch.minimum(found - t[where], t[where + 1] - found) < TOLERANCE / 2
    return found[~near]
