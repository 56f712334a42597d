"""Repeated examples against the source, one example at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twostroke.data import (
    Data,
    Examples,
    ExampleSource,
    FlipShift,
    Repeated,
    check_replayable,
)
from twostroke.errors import DataError, SettingsError


def source(count: int, **options: Any) -> Examples:
    images = torch.arange(count * 16, dtype=torch.float32).view(count, 1, 4, 4)
    return Examples(images, torch.arange(count) % 2, classes=("a", "b"), **options)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), count=st.integers(1, 6), times=st.integers(1, 5), seed=st.integers(0, 9))
def test_an_example_is_a_view_of_its_original(
    data: st.DataObject, count: int, times: int, seed: int
) -> None:
    inner = source(count, augmentation=FlipShift(shift=2))
    repeated = Repeated(inner, times)
    assert len(repeated) == count * times
    view = data.draw(st.none() | st.integers(0, 99))
    asked = data.draw(st.lists(st.integers(0, count * times - 1), max_size=8))
    part = data.draw(st.lists(st.integers(0, count * times - 1), min_size=1, max_size=8))

    def by_hand(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        of = None if view is None else view * times + index // count
        return inner.batch(torch.tensor([index % count]), view=of, seed=seed)

    x, y = repeated.batch(torch.tensor(asked, dtype=torch.int64), view=view, seed=seed)
    assert x.shape == (len(asked), 1, 4, 4)
    for row, index in enumerate(asked):
        one, label = by_hand(index)
        assert torch.equal(x[row], one[0])
        assert y[row] == label[0]
    some = repeated.subset(torch.tensor(part)).subset(torch.tensor([len(part) - 1]))
    assert len(some) == 1
    assert torch.equal(some.batch(torch.tensor([0]), view=view, seed=seed)[0], by_hand(part[-1])[0])


def test_it_is_a_source_like_its_own() -> None:
    repeated = Repeated(source(3, augmentation=FlipShift(shift=1)), 4)
    assert isinstance(repeated, ExampleSource)
    assert (repeated.shape, repeated.classes) == ((1, 4, 4), ("a", "b"))
    check_replayable(repeated, samples=12)
    assert repeated.to("meta").batch(torch.tensor([11]), view=1)[0].device.type == "meta"
    assert "4)" in repr(repeated)
    views = repeated.batch(torch.arange(0, 12, 3), view=0)[0]
    assert len(views.unique(dim=0)) > 1  # copies of one example differ


def test_what_is_refused() -> None:
    inner = source(4)
    with pytest.raises(SettingsError, match="times must be 1 or more, not 0"):
        Repeated(inner, 0)
    with pytest.raises(DataError, match="index 8 is out of range"):
        Repeated(inner, 2).batch(torch.tensor([8]))
    with pytest.raises(DataError, match="at least one"):
        Repeated(inner, 2).subset(torch.tensor([], dtype=torch.int64))
    with pytest.raises(DataError, match="split the data first"):
        Data("few", Repeated(inner, 9), inner).split_validation(count=2)
