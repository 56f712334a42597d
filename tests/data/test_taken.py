"""Images and labels as people have them: each case comes out right, or is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from twostroke.data import Data, DatasetExamples, Examples, as_data, from_tensors
from twostroke.errors import DataError

DRAW = np.random.default_rng(0)
X = DRAW.integers(0, 256, (40, 3, 8, 9), dtype=np.uint8)
Y = np.arange(40) % 4
TEST, Y_TEST = X[::2].copy(), Y[::2].copy()


def batches(data: Data) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    train, test = (part.batch(torch.arange(len(part))) for part in (data.train, data.test))
    return *train, *test


PLAIN = batches(from_tensors(*map(torch.from_numpy, (X, Y, TEST, Y_TEST))))


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.setflags(write=False)
    return array


IMAGES: dict[str, Callable[[np.ndarray], Any]] = {
    "tensor": torch.from_numpy,
    "array": lambda x: x,
    "Fortran order": np.asfortranarray,
    "backwards in memory": lambda x: x[:, :, ::-1].copy()[:, :, ::-1],
    "other byte order": lambda x: (x / 255).astype(">f4"),
    "channels at the end": lambda x: x.transpose(0, 2, 3, 1),
    "channels at the end, floats": lambda x: torch.from_numpy(x).permute(0, 2, 3, 1) / 255,
    "floats of 0 to 1": lambda x: torch.from_numpy(x) / 255,
    "floats of 0 to 255": lambda x: torch.from_numpy(x).float(),
    "masked, but nothing is": np.ma.masked_array,
    "read-only": read_only,
}
UNIT = {"other byte order", "channels at the end, floats", "floats of 0 to 1"}
LABELS: dict[str, Callable[[np.ndarray], Any]] = {
    "(count, 1)": lambda y: y[:, None],
    "one-hot": lambda y: np.eye(4, dtype=np.float32)[y],
    "one-hot, bool": lambda y: torch.from_numpy(np.eye(4)[y]).bool(),
    "floats": lambda y: torch.from_numpy(y).double(),
    "bytes": lambda y: y.astype(np.uint8),
    "16 bits, other byte order": lambda y: y.astype(">i2"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("test", IMAGES)
@pytest.mark.parametrize("train", ["tensor", "floats of 0 to 1", "floats of 0 to 255"])
def test_images_are_the_same_however_they_come(train: str, test: str) -> None:
    if "floats of 0 to 255" in (train, test) and UNIT & {train, test}:
        with pytest.raises(DataError, match="not in the same units"):
            from_tensors(IMAGES[train](X), Y, IMAGES[test](TEST), Y_TEST)
        return
    data = from_tensors(IMAGES[train](X), Y, IMAGES[test](TEST), Y_TEST)
    for ours, plain in zip(batches(data), PLAIN, strict=True):
        torch.testing.assert_close(ours, plain)
    assert ("brought to the units" in data.note) == (("255" in train) != ("255" in test))
    assert ("moved from the end" in data.note) == ("at the end" in test)


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_the_same_however_they_come(kind: str) -> None:
    data = from_tensors(X, LABELS[kind](Y), TEST, LABELS[kind](Y_TEST))
    assert torch.equal(batches(data)[1], PLAIN[1])
    assert torch.equal(batches(data)[3], PLAIN[3])
    assert data.classes == ("0", "1", "2", "3")
    labels = LABELS[kind](Y)
    examples = Examples(torch.from_numpy(X), torch.as_tensor(np.asarray(labels).astype(float)))
    assert torch.equal(examples.labels, PLAIN[1])


def test_grey_images_without_a_channel_and_channels_at_the_end() -> None:
    assert from_tensors(X[:, 0], Y, TEST[:, 0], Y_TEST).train.shape == (1, 8, 9)
    square = X[:, :1, :, :8].transpose(0, 2, 3, 1)  # count, 8, 8, 1
    assert as_data((square / 255, Y)).train.shape == (1, 8, 8)
    # signals of 30 values in 8 channels, as images of width 1, and plain vectors stay as they are
    assert as_data((torch.rand(40, 8, 30, 1), torch.from_numpy(Y))).train.shape == (8, 30, 1)
    assert as_data((torch.rand(40, 8, 1, 1), torch.from_numpy(Y))).train.shape == (8, 1, 1)


def spoilt(labels: np.ndarray, place: int, value: float) -> np.ndarray:
    labels = labels.astype(float)
    labels[place] = value
    return labels


NORMAL = (X / 255.0 - 0.5) / 0.25


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            (X / 255, Y, TEST * 1.0, Y_TEST),
            r"training images from 0 to 1 .* test images from 0 to 2",
        ),
        ((NORMAL, Y, TEST / 255, Y_TEST), "not in the same units: prepare both in the same way"),
        ((X / 255, Y, NORMAL[::2], Y_TEST), "not in the same units"),
        (
            (NORMAL, Y, TEST, Y_TEST),
            r"training images are .*float64 from -2 to 2, and test .* bytes",
        ),
        (
            (X, Y, NORMAL[::2], Y_TEST),
            r"test images are .*float64 from -2 .* and training .* bytes",
        ),
        ((X, Y, TEST // 255, Y_TEST), "not in the same units"),
        (
            (np.ma.masked_less(X, 2), Y, TEST, Y_TEST),
            r"training set: images is a masked array, in which",
        ),
        (
            (X, np.ma.masked_less(Y, 1), TEST, Y_TEST),
            "labels is a masked array, in which 10 values",
        ),
        ((X, np.eye(4)[Y] * 0.9, TEST, Y_TEST), r"shape \(40, 4\), and row 0 is not one-hot"),
        ((X, spoilt(Y, 7, 0.5), TEST, Y_TEST), "training set: example 7 has label 0.5"),
        ((X, spoilt(Y, 7, np.nan), TEST, Y_TEST), "training set: example 7 has label nan"),
        ((X, Y.astype(str), TEST, Y_TEST), "labels has values of type <U"),
        (
            (X.astype(np.uint16), Y, TEST, Y_TEST),
            "images must be uint8 or floating, got torch.uint16",
        ),
        ((X.astype(object), Y, TEST, Y_TEST), "images has values of type object"),
    ],
)
def test_what_cannot_be_told_is_refused_by_name(given: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        as_data(given)


def test_data_sets_in_different_units_are_refused_too() -> None:
    labels = torch.from_numpy(Y)
    bytes_ = TensorDataset(torch.from_numpy(X), labels)
    floats = TensorDataset(torch.from_numpy(X).float(), labels)
    with pytest.raises(
        DataError, match=r"training images from 0 to 255 .* test images from 0 to 1"
    ):
        as_data((floats, bytes_))
    as_data((bytes_, TensorDataset(torch.from_numpy(X) / 255, labels)))
    meant = Data("meant so", DatasetExamples(floats), DatasetExamples(bytes_))
    assert as_data(meant) is meant
    last = TensorDataset(torch.from_numpy(X).permute(0, 2, 3, 1), labels)
    with pytest.raises(DataError, match=r"\(8, 9, 3\), with its channels at the end"):
        as_data((last, last))
