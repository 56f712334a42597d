"""Draws against splitmix64 in unbounded Python integers, and against chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from twostroke.data import draw_integers, draw_order, draw_some
from twostroke.data.draws import _mix_int

BITS = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(z: int) -> int:
    """Splitmix64's finaliser in unbounded Python integers."""
    z &= BITS
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & BITS
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & BITS
    return z ^ (z >> 31)


def draw(index: int, below: int, *, seed: int, view: int, stream: int) -> int:
    key = mix(mix(seed * GOLDEN) + view * GOLDEN)
    return (mix(mix(key + index * GOLDEN) + stream * GOLDEN) >> 32) * below >> 32


def test_finaliser_gives_the_published_stream_of_splitmix64() -> None:
    stream = [_mix_int(GOLDEN * k) for k in (1, 2, 3)]
    assert stream == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@settings(max_examples=60, deadline=None)
@given(
    index=st.integers(0, 2**63 - 1),
    below=st.integers(1, 2**31 - 1),
    seed=st.integers(-(2**63), 2**64),
    view=st.integers(0, 2**40),
    stream=st.integers(0, 9),
)
def test_draws_wrap_around_as_64_bit_arithmetic_does(
    index: int, below: int, seed: int, view: int, stream: int
) -> None:
    drawn = draw_integers(torch.tensor([index]), below, seed=seed, view=view, stream=stream)
    assert drawn.tolist() == [draw(index, below, seed=seed, view=view, stream=stream)]


@pytest.mark.parametrize("other", [{"view": 1}, {"seed": 1}, {"stream": 1}])
def test_view_seed_and_stream_each_change_the_draws(other: dict[str, int]) -> None:
    same = {"view": 0, "seed": 0, "stream": 0}
    first = draw_integers(torch.arange(1000), 10, **same)
    second = draw_integers(torch.arange(1000), 10, **{**same, **other})
    # independent draws agree on about 100 of 1,000
    assert 60 < int((first == second).sum()) < 140


def chi_square(counts: np.ndarray) -> float:
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum())


def test_draws_are_uniform() -> None:
    drawn = draw_integers(torch.arange(22_000), 11, seed=1, view=3)
    assert chi_square(np.bincount(drawn.numpy(), minlength=11)) < 29.6  # 0.999 at 10 degrees


def test_draws_of_neighbours_views_and_streams_are_independent() -> None:
    def draws(first: int, *, view: int = 0, stream: int = 0) -> Tensor:
        return draw_integers(
            torch.arange(first, first + 20_000), 5, seed=0, view=view, stream=stream
        )

    for other in (draws(1), draws(0, view=1), draws(0, stream=1)):
        pairs = (draws(0) * 5 + other).numpy()
        assert chi_square(np.bincount(pairs, minlength=25)) < 51.2  # 0.999 at 24 degrees


def test_an_order_is_a_permutation_that_its_seed_and_view_fix():
    order = draw_order(1000, seed=3)
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert torch.equal(order, draw_order(1000, seed=3))
    assert order[:5].tolist() == [80, 690, 108, 553, 130]
    for other in (draw_order(1000, seed=4), draw_order(1000, seed=3, view=1)):
        assert not torch.equal(order, other)
    assert draw_order(0, seed=0).shape == (0,)
    assert draw_some(3, 1000, seed=3).tolist() == [80, 108, 690]
    assert draw_some(9, 4, seed=3).tolist() == [0, 1, 2, 3]
