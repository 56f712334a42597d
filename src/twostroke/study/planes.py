"""The regions of a triangle between three inputs, exactly: polygons, cut site by site.

Within a polygon in which all sites before are on one piece a pre-activation is affine, so that its values at
the corners say whether its wall crosses, and where.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import TooLargeError
from ..support import Support, record
from .margins import TOLERANCE, checked, look

Array = NDArray[np.float64]
_CORNERS = 1024  # of a forward pass


@dataclass(frozen=True)
class Plane:
    """Regions of a triangle: `a + u (b - a) + v (c - a)` for u, v ≥ 0 and u + v ≤ 1.

    polygons: for each region its corners in turn, (corners, 2) of (u, v).
    support: the pattern of each.
    """

    polygons: list[Array]
    support: Support


def plane(model: nn.Module, a: Tensor, b: Tensor, c: Tensor, *, limit: int = 20_000) -> Plane:
    """All regions of the triangle between three inputs (without the batch), and their patterns.

    As `line` does, for networks without max pooling. Points are mixtures of the corners, so that a
    convex domain, such as images of 0 to 1, is not left. A triangle between far inputs of a wide
    network has millions of regions: move `b` and `c` towards `a`.

    Raises `TooLargeError` beyond `limit` regions, and what `line` raises.
    """
    cells = [np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])]
    for site in checked(model, a, b, c, pooling=False):
        new: list[Array] = []
        for some in _parts(cells):
            corners, whose = np.unique(np.concatenate(some), axis=0, return_inverse=True)
            (seen,) = look(model, [site], _at(a, b, c, corners))
            q = seen.cpu().numpy()[whose]
            least = TOLERANCE * max(np.abs(q).max(), np.finfo(float).tiny)
            ends = np.cumsum([len(cell) for cell in some])
            starts = ends - [len(cell) for cell in some]
            crossed = np.maximum.reduceat(q, starts) > least
            crossed &= np.minimum.reduceat(q, starts) < -least
            for k, cell in enumerate(some):
                values = q[starts[k] : ends[k], crossed[k]]
                new += _cut(cell, values, least)
                if len(new) > limit:
                    raise TooLargeError(
                        f"this triangle has more than {limit:,} regions: move b and c towards a, such as "
                        "b = a + 0.1 * (b - a), or allow more (limit=...)"
                    )
        cells = new
    centres = np.stack([cell.mean(0) for cell in cells])
    parts = np.array_split(centres, -(-len(centres) // _CORNERS))
    return Plane(cells, Support.cat([record(model, _at(a, b, c, part)) for part in parts]))


def _at(a: Tensor, b: Tensor, c: Tensor, corners: Array) -> Tensor:
    """Points of the triangle: (points, *input)."""
    u, v = torch.from_numpy(corners).to(a.device).T.reshape(2, -1, *[1] * a.ndim)
    points: Tensor = (1 - u - v) * a + u * b + v * c
    return points


def _parts(cells: list[Array]) -> Iterator[list[Array]]:
    part: list[Array] = []
    for cell in cells:
        part.append(cell)
        if sum(map(len, part)) >= _CORNERS:
            yield part
            part = []
    if part:
        yield part


def _cut(corners: Array, values: Any, least: float) -> list[Array]:
    """Pieces of a convex polygon; `values` (corners, walls) are affine on it and 0 on their walls."""
    whole, done = [(corners, values)], []
    while whole:
        corners, values = whole.pop()
        values = (
            values[:, (values.max(0) > least) & (values.min(0) < -least)] if values.size else values
        )
        if not values.size:
            done.append(corners)
            continue
        side, following = values[:, 0], np.roll(np.arange(len(corners)), -1)
        for sign in (1, -1):
            rows: list[tuple[Array, Array]] = []
            for i, j in enumerate(following):
                if sign * side[i] >= 0:
                    rows.append((corners[i], values[i]))
                if side[i] * side[j] < 0:
                    s = side[i] / (side[i] - side[j])
                    one = (1 - s) * values[i] + s * values[j]
                    one[0] = 0.0
                    # rounded, so that neighbours share it
                    rows.append((((1 - s) * corners[i] + s * corners[j]).round(13), one))
            points, heights = zip(*rows, strict=True)
            whole.append((np.array(points), np.array(heights)))
    return done
