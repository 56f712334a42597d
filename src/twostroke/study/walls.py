"""A region from within: its nearest wall, and how steep the network is in it."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SettingsError
from ..support import Site, Support, record
from ..support.activations import Activation
from ..support.hold import Held
from ..support.intercept import Intercept
from ..theory import linear_map
from .margins import checked, margins_of

_NUMBERS = 1 << 23  # margins at a time


@dataclass(frozen=True)
class Wall:
    """The nearest wall of a region.

    distance: Euclidean, in units of the input.
    site, unit: whose wall it is.
    point: where it is met, of the input's shape.
    """

    distance: float
    site: Site
    unit: tuple[int, ...]
    point: Tensor


class _Margins(Held):
    """Holds, and keeps the margins of every site."""

    def __init__(self, support: Support) -> None:
        super().__init__(support, gated=False, strict=True, penalty=False)
        self.seen: list[Tensor] = []

    def begin(self) -> None:
        super().begin()
        self.seen = []

    def handle(self, path: str, call: int, act: Activation, run: Callable[[], Any]) -> Any:
        self.seen.append(margins_of(act))
        return super().handle(path, call, act, run)


def nearest_wall(
    model: nn.Module,
    x: Tensor,  # one input, without the batch
) -> Wall:
    """The wall of `x`'s region that is nearest to it: the least `|q| / ‖∇q‖` of all units.

    Exact: under the support of `x` every pre-activation is affine in the input, and its gradient is found by
    moving each of the input's numbers, one forward pass of an example each. What it takes of networks is what
    `plane` takes. Walls that no input reaches (`∇q = 0`) do not count.

    Raises what `line` raises; `SettingsError` where no unit depends on the input.
    """
    sites = checked(model, x, pooling=False)
    support = record(model, x[None])
    shared = Support(support.sites, support.rows, shared=True)
    handler = _Margins(shared)
    with torch.no_grad(), Intercept(model, handler, strict=False):
        model(x[None])
        widths = [seen.shape[1] for seen in handler.seen]
        base = torch.cat(handler.seen, 1)
        squares = torch.zeros_like(base)
        for part in torch.arange(x.numel()).split(max(1, _NUMBERS // base.shape[1])):
            moved = x.flatten().repeat(len(part), 1)
            moved[torch.arange(len(part)), part] += 1
            model(moved.view(-1, *x.shape))
            squares += (torch.cat(handler.seen, 1) - base).square().sum(0)
    # what moves by rounding alone does not depend on the input
    still = squares.sqrt() <= 1e-13 * base.abs().max()
    distances = (base.abs() / squares.sqrt()).masked_fill(still, torch.inf)[0]
    nearest = int(distances.argmin())
    if not bool(distances[nearest].isfinite()):
        raise SettingsError("no unit depends on this input: its region has no wall")
    edges = list(accumulate(widths))
    place = bisect(edges, nearest)
    site = sites[place]
    number = (nearest - edges[place] + widths[place]) % site.units  # a clamp has two walls a unit
    unit = tuple(int(i) for i in torch.unravel_index(torch.tensor(number), site.shape))
    root = x.detach()[None].clone().requires_grad_()
    with torch.enable_grad(), Intercept(model, handler, strict=False):
        model(root)
        (gradient,) = torch.autograd.grad(torch.cat(handler.seen, 1)[0, nearest], root)
    step = base[0, nearest] / squares[0, nearest] * gradient[0]
    return Wall(float(distances[nearest]), site, unit, x - step)


def local_lipschitz(
    model: nn.Module,
    x: Tensor,  # (batch, *inputs)
    *,
    steps: int = 100,
    tolerance: float = 1e-10,
) -> Tensor:  # (batch,)
    """The largest singular value of each example's held map: how steep the network is in its region.

    By power iteration that keeps its directions and takes the best of what they span, until it gains less than
    `tolerance`, relative. It never overshoots.

    Raises what `linear_map` raises; `SettingsError` where `steps` do not suffice.
    """
    held = linear_map(model, record(model, x, pooling=True), x)
    draw = torch.Generator().manual_seed(0)
    y = torch.randn(held.output.shape, generator=draw, dtype=torch.float64).to(held.output)
    size = min(held.output[0].numel(), x[0].numel()) if len(x) else 0
    directions: list[Tensor] = []  # (batch, outputs) each, orthonormal
    images: list[Tensor] = []  # what the transposed map makes of them
    before = torch.full((len(x),), -1.0).to(held.output)
    for _ in range(steps):
        flat = y.flatten(1)
        for _twice in range(2):
            for d in directions:
                flat = flat - (flat * d).sum(1, keepdim=True) * d
        norm = flat.norm(dim=1, keepdim=True)
        directions.append(flat / norm.clamp_min(torch.finfo(norm.dtype).tiny))
        dx = held.rmatvec(directions[-1].view_as(y))
        images.append(dx.flatten(1))
        values: Tensor = torch.linalg.matrix_norm(torch.stack(images, 1), 2)
        if len(images) >= size or bool((values - before <= tolerance * values).all()):
            return values
        before, y = values, held.matvec(dx)
    raise SettingsError(f"{steps} steps do not reach the tolerance: allow more steps")
