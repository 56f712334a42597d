from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from twostroke.data import (
    DatasetExamples,
    Examples,
    ExampleSource,
    FlipShift,
    check_replayable,
)
from twostroke.errors import DataError, NotReplayableError

IMAGES = torch.randint(0, 256, (10, 3, 6, 6), generator=torch.Generator().manual_seed(1)).byte()
LABELS = torch.arange(10) % 3


class Items(Dataset[Any]):
    """Items as given, with the names of three classes."""

    classes = ("a", "b", "c")

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def pairs() -> list[Any]:
    return list(zip(IMAGES, LABELS.tolist(), strict=True))


def test_batches_equal_those_of_the_same_examples_in_memory() -> None:
    in_memory = Examples(IMAGES, LABELS, augmentation=FlipShift(shift=2), classes=Items.classes)
    source = DatasetExamples(
        Items(pairs()), augmentation=FlipShift(shift=2), mean=in_memory.mean, std=in_memory.std
    )
    indices = torch.tensor([9, 2, 2])
    for view in (None, 5):
        x, y = source.batch(indices, view=view, seed=1)
        expected_x, expected_y = in_memory.batch(indices, view=view, seed=1)
        assert torch.allclose(x, expected_x, atol=1e-5)
        assert torch.equal(y, expected_y)
    assert source.classes == ("a", "b", "c")
    assert source.shape == (3, 6, 6)
    assert len(source) == 10
    assert isinstance(source, ExampleSource)
    assert "Items, 10 of 3 x 6 x 6" in repr(source)


def test_floating_images_are_left_as_they_are_without_moments() -> None:
    x, _ = DatasetExamples(TensorDataset(IMAGES.float(), LABELS)).batch(torch.arange(10))
    assert torch.equal(x, IMAGES.float())


def test_nothing_is_cached() -> None:
    dataset = Items(pairs())
    source = DatasetExamples(dataset)
    source.batch(torch.tensor([4]))
    dataset.items[4] = (torch.zeros(3, 6, 6), 2)
    x, y = source.batch(torch.tensor([4]))
    assert torch.equal(x, torch.zeros(1, 3, 6, 6))
    assert y.tolist() == [2]


def test_subset_and_device() -> None:
    source = DatasetExamples(Items(pairs()), mean=[0.5] * 3)
    part = source.subset(torch.tensor([7, 1]))
    assert len(part) == 2
    assert torch.equal(part.batch(torch.tensor([1]))[0], source.batch(torch.tensor([1]))[0])
    assert source.to("meta").batch(torch.tensor([1]))[0].device.type == "meta"


def test_classes_are_found_or_asked_for() -> None:
    class Targets(Items):
        classes = None  # type: ignore[assignment]
        targets = (0, 4, 1)

    assert DatasetExamples(Targets(pairs())).classes == ("0", "1", "2", "3", "4")
    assert DatasetExamples(TensorDataset(IMAGES, LABELS)).classes == ("0", "1", "2")
    assert DatasetExamples(Subset(Items(pairs()), [3, 1])).classes == ("a", "b", "c")
    Targets.targets = None  # type: ignore[assignment]
    with pytest.raises(DataError, match=r"pass classes=\(...\)"):
        DatasetExamples(Targets(pairs()))


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("cat", "item 3 is of type str"),
        ((IMAGES[0],), "item 3 is of type tuple, not a pair"),
        ((IMAGES[0].numpy(), 0), "image of item 3 is of type ndarray, .*ToTensor"),
        ((IMAGES[0, 0], 0), "image of item 3 must be .* shape \\(6, 6\\)"),
        ((IMAGES[0].long(), 0), "image of item 3 must be .* torch.int64"),
        ((IMAGES[0, :, 1:], 0), "item 3 has the shape \\(3, 5, 6\\), but item 0"),
        ((IMAGES[0], "cat"), "label of item 3 is of type str"),
        ((IMAGES[0], torch.tensor(1.0)), "label of item 3 is of type Tensor"),
        ((IMAGES[0], torch.tensor([0, 1])), "label of item 3 is of type Tensor"),
        ((IMAGES[0], 3), "item 3 has label 3, .*0..2"),
        ((IMAGES[0].float() * float("nan"), 0), "item 3 has a pixel that is NaN"),
    ],
)
def test_bad_items_are_named(item: Any, text: str) -> None:
    items = pairs()
    items[3] = item
    source = DatasetExamples(Items(items))
    source.batch(torch.tensor([0, 4]))
    with pytest.raises(DataError, match=text):
        source.batch(torch.tensor([0, 3]))


def test_bad_datasets_and_indices_are_refused() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(pairs())

    with pytest.raises(DataError, match="map-style"):
        DatasetExamples(Stream())
    with pytest.raises(DataError, match="Items is empty"):
        DatasetExamples(Items([]))
    with pytest.raises(DataError, match="std must be above 0"):
        DatasetExamples(Items(pairs()), std=[1.0, 1.0, 0.0])
    with pytest.raises(DataError, match="index 10 is out of range"):
        DatasetExamples(Items(pairs())).batch(torch.tensor([10]))


def test_replayable_sources_pass() -> None:
    check_replayable(Examples(IMAGES, LABELS, augmentation=FlipShift(shift=2)))
    check_replayable(DatasetExamples(Items(pairs()), augmentation=FlipShift(shift=2)), samples=99)


def test_a_random_transform_is_refused_by_index() -> None:
    class Jittered(Items):
        def __getitem__(self, index: int) -> Any:
            image, label = self.items[index]
            return (image + torch.rand(1) if index >= 5 else image), label

    with pytest.raises(NotReplayableError, match=r"example 5, .*FlipShift\(\)"):
        check_replayable(DatasetExamples(Jittered(pairs())), samples=10)


def test_draws_that_depend_on_the_place_in_the_batch_are_refused() -> None:
    class ByPlace(Examples):
        def batch(self, indices: Any, **options: Any) -> Any:
            x, y = super().batch(indices, **options)
            return x + torch.arange(len(x))[:, None, None, None], y

    with pytest.raises(NotReplayableError, match="example 0"):
        check_replayable(ByPlace(IMAGES, LABELS))


def test_a_label_that_changes_is_refused() -> None:
    class Relabelled(Items):
        fetched = 0

        def __getitem__(self, index: int) -> Any:
            self.fetched += 1
            return self.items[index][0], self.fetched % 2

    with pytest.raises(NotReplayableError, match="example 0"):
        check_replayable(DatasetExamples(Relabelled(pairs())), samples=1)
