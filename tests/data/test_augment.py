from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from twostroke.data import FlipShift, augmentation, draw_integers, draw_order, draw_some
from twostroke.data.augment import _mix_int
from twostroke.errors import DataError, SettingsError, UnknownNameError

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


def flip_shift(image: Tensor, index: int, *, op: FlipShift, view: int, seed: int) -> Tensor:
    """One image, pixel by pixel: mirror, then move."""
    options = {"seed": seed, "view": view}
    mirrored = op.flip and draw(index, 2, stream=0, **options) == 1
    down = draw(index, 2 * op.shift + 1, stream=1, **options) - op.shift
    right = draw(index, 2 * op.shift + 1, stream=2, **options) - op.shift
    source = image.flip(2) if mirrored else image
    out = torch.full_like(image, op.fill)
    height, width = image.shape[1:]
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                out[:, row, column] = source[:, row - down, column - right]
    return out


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


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_flip_shift_equals_the_reference_image_by_image(data: st.DataObject) -> None:
    batch, channels = data.draw(st.integers(0, 4)), data.draw(st.integers(1, 3))
    height, width = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
    shift = data.draw(st.integers(0, min(height, width) - 1))
    op = FlipShift(flip=data.draw(st.booleans()), shift=shift, fill=data.draw(st.integers(0, 9)))
    view, seed = data.draw(st.integers(0, 99)), data.draw(st.integers(0, 99))
    indices = data.draw(st.lists(st.integers(0, 10**6), min_size=batch, max_size=batch))
    dtype = data.draw(st.sampled_from([torch.uint8, torch.float32, torch.float64]))
    images = torch.arange(batch * channels * height * width) % 251
    images = images.view(batch, channels, height, width).to(dtype)
    before = images.clone()

    moved = op(images, torch.tensor(indices, dtype=torch.int64), view=view, seed=seed)

    assert moved.dtype == dtype
    assert moved.shape == images.shape
    assert torch.equal(images, before)
    for row, index in enumerate(indices):
        expected = flip_shift(images[row], index, op=op, view=view, seed=seed)
        assert torch.equal(moved[row], expected)


def test_a_view_does_not_depend_on_the_rest_of_the_batch() -> None:
    images, indices = torch.rand(9, 3, 8, 8), torch.arange(100, 109)
    whole = FlipShift(shift=3)(images, indices, view=4, seed=2)
    order = torch.tensor([7, 0, 3])
    part = FlipShift(shift=3)(images[order], indices[order], view=4, seed=2)
    assert torch.equal(part, whole[order])


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


def test_over_many_views_every_offset_and_both_sides_occur() -> None:
    image = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    image[0, 0, 4, 3] = 1
    places = set()
    for view in range(600):
        moved = FlipShift(shift=2)(image, torch.tensor([5]), view=view, seed=0)
        places.add(tuple(moved[0, 0].nonzero()[0].tolist()))
    # rows 4 +- 2; columns 3 +- 2, or mirrored 5 +- 2
    assert places == {(row, column) for row in range(2, 7) for column in range(1, 8)}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_draws_on_cuda_equal_those_on_the_cpu() -> None:
    indices = torch.arange(5000) * 1_000_003
    on_cpu = draw_integers(indices, 11, seed=7, view=9)
    assert torch.equal(draw_integers(indices.cuda(), 11, seed=7, view=9).cpu(), on_cpu)
    images = torch.rand(50, 3, 8, 8)
    moved = FlipShift()(images, indices[:50], view=1, seed=1)
    assert torch.equal(FlipShift()(images.cuda(), indices[:50], view=1, seed=1).cpu(), moved)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="shift"):
        FlipShift(shift=-1)
    with pytest.raises(SettingsError, match="fill"):
        FlipShift(fill=float("nan"))
    with pytest.raises(SettingsError, match="4 x 9"):
        FlipShift(shift=4)(torch.rand(1, 1, 4, 9), torch.tensor([0]), view=0, seed=0)
    with pytest.raises(DataError, match="one index for each"):
        FlipShift()(torch.rand(2, 1, 9, 9), torch.tensor([0]), view=0, seed=0)
    with pytest.raises(SettingsError, match="below"):
        draw_integers(torch.tensor([0]), 0, seed=0, view=0)


def test_lookup_by_name() -> None:
    assert augmentation("none") is None
    assert augmentation("flip-shift") == FlipShift(flip=True, shift=5)
    assert augmentation("shift") == FlipShift(flip=False, shift=5)
    with pytest.raises(UnknownNameError, match="did you mean 'flip-shift'"):
        augmentation("flipshift")


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
