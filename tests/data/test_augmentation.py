from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from twostroke.data import FlipShift, draw_integers
from twostroke.data.augmentation import named_augmentation
from twostroke.errors import DataError, SettingsError, UnknownNameError

from .test_draws import draw


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
    assert named_augmentation("none") is None
    assert named_augmentation("flip-shift") == FlipShift(flip=True, shift=5)
    assert named_augmentation("shift") == FlipShift(flip=False, shift=5)
    with pytest.raises(UnknownNameError, match="did you mean 'flip-shift'"):
        named_augmentation("flipshift")
