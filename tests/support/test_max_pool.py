"""Max pooling held: each output takes the input at a given index."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import twostroke as ts
from twostroke.errors import SupportMismatchError

from .helpers import Call, assert_held_as_live, images, normal, planes_of, support_of

POOLED: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "1d": (1, lambda: nn.MaxPool1d(2)),
    "1d padded": (1, lambda: nn.MaxPool1d(3, stride=2, padding=1)),
    "1d adaptive": (1, lambda: nn.AdaptiveMaxPool1d(3)),
    "F 1d": (1, lambda: Call(lambda x: F.max_pool1d(x, 3, 1))),
    "torch 1d": (1, lambda: Call(lambda x: torch.max_pool1d(x, 2))),
    "torch 1d adaptive": (1, lambda: Call(lambda x: torch.adaptive_max_pool1d(x, 3)[0])),
    "torch 1d indices": (1, lambda: Call(lambda x: torch.max_pool1d_with_indices(x, 2)[0])),
    "2d": (2, lambda: nn.MaxPool2d(2)),
    "2d overlapping": (2, lambda: nn.MaxPool2d(3, stride=2, padding=1)),
    "2d ceil": (2, lambda: nn.MaxPool2d(2, ceil_mode=True)),
    "2d dilated": (2, lambda: nn.MaxPool2d(2, stride=1, dilation=2)),
    "2d oblong": (2, lambda: nn.MaxPool2d((2, 3), stride=(1, 2), padding=(1, 1))),
    "2d adaptive": (2, lambda: nn.AdaptiveMaxPool2d((2, None))),
    "2d global": (2, lambda: Call(lambda x: F.adaptive_max_pool2d(x, 1))),
    "F 2d": (2, lambda: Call(lambda x: F.max_pool2d(x, 2))),
    "F 2d stride None": (2, lambda: Call(lambda x: F.max_pool2d(x, kernel_size=2, stride=None))),
    "torch 2d": (2, lambda: Call(lambda x: torch.max_pool2d(x, (2, 2)))),
    "torch 2d all by position": (2, lambda: Call(lambda x: torch.max_pool2d(x, 3, 2, 1, 1, True))),
    "2d indices": (2, lambda: Call(lambda x: F.max_pool2d(x, 2, return_indices=True)[0])),
    "2d with_indices": (2, lambda: Call(lambda x: F.max_pool2d_with_indices(x, 2)[0])),
    "3d": (3, lambda: nn.MaxPool3d(2)),
    "3d ceil, padded": (3, lambda: nn.MaxPool3d(3, stride=2, padding=1, ceil_mode=True)),
    "3d adaptive": (3, lambda: nn.AdaptiveMaxPool3d(2)),
    "torch 3d": (3, lambda: Call(lambda x: torch.max_pool3d(x, 2))),
}
SIDES = {1: (11,), 2: (7, 6), 3: (4, 5, 4)}


@pytest.mark.parametrize("name", POOLED)
def test_held_max_pooling_right_after_recording(name: str) -> None:
    dims, make = POOLED[name]
    x = normal(2, 3, *SIDES[dims]).round(decimals=1)  # with ties
    pool = nn.Sequential(make())
    support = assert_held_as_live(pool, x, pooling=True)
    assert [s.kind for s in support.sites] == ["max_pool"]
    assert support.sites[0].shape == pool(x).shape[1:]


@pytest.mark.parametrize("name", POOLED)
def test_held_max_pooling_on_any_indices(name: str) -> None:
    dims, make = POOLED[name]
    pool = nn.Sequential(make())
    x = normal(2, 3, *SIDES[dims])
    (site,) = ts.sites(pool, x, pooling=True)
    plane = math.prod(SIDES[dims])
    draw = torch.Generator().manual_seed(3)
    index = torch.randint(plane, (2, *site.shape), generator=draw)
    support = support_of({site: planes_of(index, site.planes)})
    assert torch.equal(support.pieces(site), index)
    with ts.hold(pool, support):
        held = pool(x)
    for place in torch.cartesian_prod(*[torch.arange(n) for n in index.shape]).tolist():
        n, c = place[:2]
        assert held[tuple(place)] == x[n, c].flatten()[index[tuple(place)]]


def test_pieces_of_max_pooling_are_the_indices() -> None:
    x = normal(2, 3, 7, 6)
    pool = nn.MaxPool2d(3, stride=2, padding=1, return_indices=True)
    support = ts.record(pool, x, pooling=True)
    live, index = pool(x)
    assert torch.equal(support.pieces(""), index)
    with ts.hold(pool, support):
        held, held_index = pool(x + normal(2, 3, 7, 6, seed=1))
    assert torch.equal(held_index, index)
    assert not torch.equal(held, live)


def test_max_pooling_stays_live_when_it_was_not_recorded() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.MaxPool2d(2)).double()
    support = ts.record(net, images())
    other = images(seed=5)
    with ts.hold(net, support):
        held = net(other)
    q = net[0](other)
    assert torch.equal(held, F.max_pool2d(torch.where(support["1"], q, 0.0), 2))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ((2, 3, 9, 9), (2, 3, 10, 10)),
        ((2, 3, 8), (2, 3, 10)),
        ((2, 3, 8, 8), (2, 3, 9, 9)),  # as many maxima, in a plane that needs another bit
    ],
)
def test_max_pooling_of_another_size_does_not_fit(
    one: tuple[int, ...], two: tuple[int, ...]
) -> None:
    pool = nn.MaxPool2d(2) if len(one) == 4 else nn.MaxPool1d(2)
    support = ts.record(pool, normal(*one), pooling=True)
    with ts.hold(pool, support), pytest.raises(SupportMismatchError, match="#0 is a max_pool"):
        pool(normal(*two))
