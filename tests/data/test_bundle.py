from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from twostroke.data import Data, DatasetExamples, Examples, FlipShift, as_data, from_tensors
from twostroke.errors import DataError, SettingsError

X = torch.arange(20 * 4, dtype=torch.float32).view(20, 1, 2, 2)
Y = torch.arange(20) % 3
TEST = (torch.ones(5, 1, 2, 2), torch.tensor([0, 1, 2, 1, 0]))


def test_from_tensors_shares_moments_and_classes_and_augments_training_only() -> None:
    data = from_tensors(X, Y, *TEST, augmentation=FlipShift(shift=1))
    assert isinstance(data.train, Examples)
    assert isinstance(data.test, Examples)
    assert torch.equal(data.test.mean, data.train.mean)
    assert data.train.mean.tolist() == [39.5]
    assert torch.equal(data.test.std, data.train.std)
    assert data.classes == data.train.classes == data.test.classes == ("0", "1", "2")
    assert data.train.augmentation == FlipShift(shift=1)
    assert data.test.augmentation is None
    assert data.note == "20 + 5 examples given as tensors"


def test_from_tensors_says_which_set_is_bad() -> None:
    with pytest.raises(DataError, match=r"^mine: test set: 5 images, but 4 labels"):
        from_tensors(X, Y, TEST[0], TEST[1][:4], name="mine")
    with pytest.raises(DataError, match="training set: no examples"):
        from_tensors(X[:0], Y[:0], *TEST)
    with pytest.raises(
        DataError, match="test set: example 0 has label nan: labels must be integers"
    ):
        from_tensors(X, Y, TEST[0], TEST[1] * float("nan"))


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(1, 2, 2\), test images \(1, 2, 1\)"):
        from_tensors(X, Y, TEST[0][..., :1], TEST[1])
    with pytest.raises(DataError, match=r"\(1, 2, 2\), test images \(3, 2, 2\)"):
        from_tensors(X, Y, TEST[0].expand(-1, 3, -1, -1), TEST[1])
    with pytest.raises(DataError, match=r"training labels are 0..2, but test labels 0..3"):
        from_tensors(X, Y, TEST[0], TEST[1] + (TEST[1] == 2))
    train, test = Examples(X, Y), Examples(TEST[0], torch.tensor([0, 1, 2, 3, 0]))
    with pytest.raises(DataError, match=r"test set has .* \(0, 1, 2, 3\), but \(0, 1, 2\)"):
        Data("mine", train, test)
    with pytest.raises(DataError, match=r"training set has .* but \(a\)"):
        Data("mine", train, train, classes=("a",))


def test_a_single_class_is_refused() -> None:
    with pytest.raises(DataError, match="every training example has the label 4"):
        from_tensors(X, Y * 0 + 4, *TEST)
    with pytest.raises(DataError, match="every training example has the label 4"):
        as_data((X, Y * 0 + 4))
    dataset = TensorDataset(X, Y * 0)
    with pytest.raises(
        DataError, match=r"TensorDataset: training needs two classes, there is \(0\)"
    ):
        as_data((dataset, dataset))


def test_split_validation_divides_the_training_set() -> None:
    data = from_tensors(X, Y, *TEST)
    split = data.split_validation(share=0.25, seed=3)
    assert isinstance(split.train, Examples)
    assert isinstance(split.test, Examples)
    train, held_out = (part.images[:, 0, 0, 0].tolist() for part in (split.train, split.test))
    assert len(held_out) == 5
    assert sorted(train + held_out) == X[:, 0, 0, 0].tolist()
    assert train == sorted(train)
    assert torch.equal(split.train.mean, data.train.mean)  # type: ignore[attr-defined]
    assert split.note.endswith("15 to train and 5 to validate (seed 3)")

    def chosen(seed: int) -> list[float]:
        test: Any = data.split_validation(count=5, seed=seed).test
        return test.images[:, 0, 0, 0].tolist()

    assert chosen(3) == held_out
    assert chosen(4) != held_out


def test_split_validation_of_a_dataset() -> None:
    dataset = TensorDataset(X, Y)
    split = as_data((dataset, dataset)).split_validation(count=4)
    assert (len(split.train), len(split.test)) == (16, 4)


@pytest.mark.parametrize(
    "options", [{}, {"share": 0.1, "count": 2}, {"share": 1.0}, {"share": 0.01}, {"count": 20}]
)
def test_split_validation_refuses_empty_parts(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        from_tensors(X, Y, *TEST).split_validation(**options)


class Bare:
    """A source with the four things that are asked of one, and no more."""

    shape = (1, 2, 2)
    classes = ("0", "1", "2")

    def __len__(self) -> int:
        return 20

    def batch(self, indices: torch.Tensor, *, view: int | None = None, seed: int = 0) -> Any:
        return X[indices], Y[indices]


def test_a_source_of_ones_own_is_taken_and_told_what_it_lacks() -> None:
    bare = Bare()
    data = as_data((bare, bare))
    assert data.train is bare
    assert data.to("meta").train is bare
    with pytest.raises(DataError, match=r"Bare cannot be split: give it a method subset"):
        data.split_validation(count=2)


def test_to_moves_both_sets() -> None:
    moved = from_tensors(X, Y, *TEST).to("meta")
    assert [part.images.device.type for part in (moved.train, moved.test)] == ["meta"] * 2  # type: ignore[attr-defined]
    only = as_data((X, Y)).to("meta")
    assert only.test is only.train


def test_as_data_takes_what_callers_have() -> None:
    data = from_tensors(X, Y, *TEST)
    assert as_data(data) is data
    assert len(as_data([X, Y, *TEST]).test) == 5
    only = as_data((X, Y))
    assert only.test is only.train
    assert "no test set" in only.note
    assert as_data((X, Y), classes=["a", "b", "c"]).classes == ("a", "b", "c")
    pair = as_data((TensorDataset(X, Y), TensorDataset(X[:2], Y[:2])))
    assert isinstance(pair.train, DatasetExamples)
    assert pair.test.classes == ("0", "1", "2")
    assert pair.note == "20 + 2 examples of TensorDataset"
    assert as_data((data.train, data.test)).test is data.test


def test_as_data_notices_that_named_classes_differ() -> None:
    class Named(TensorDataset):
        classes: tuple[str, ...] = ("a", "b", "c")

    other = Named(X, Y)
    other.classes = ("b", "a", "c")
    with pytest.raises(DataError, match=r"\(b, a, c\), but \(a, b, c\)"):
        as_data((Named(X, Y), other))


@pytest.mark.parametrize("obj", [None, X, (X,), (X, Y, X), (X.tolist(), Y), "mnist", {}])
def test_as_data_refuses_the_rest_and_says_what_it_takes(obj: Any) -> None:
    with pytest.raises(DataError, match=r"two map-style Datasets \(train, test\); got"):
        as_data(obj)
