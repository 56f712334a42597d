from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor

from twostroke.data import Examples, ExampleSource, FlipShift
from twostroke.errors import DataError


def make(count: int = 12, dtype: torch.dtype = torch.uint8, **options: object) -> Examples:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 6, 6), generator=generator).to(dtype)
    return Examples(images, torch.arange(count) % 4, **options)  # type: ignore[arg-type]


def test_batch_is_normalised_with_the_moments_of_pixels_in_0_to_1() -> None:
    examples = make(700)  # more than are looked at in one go
    pixels = examples.images.double() / 255
    assert torch.allclose(examples.mean.double(), pixels.mean((0, 2, 3)), rtol=1e-6)
    std = pixels.std((0, 2, 3), correction=0)
    assert torch.allclose(examples.std.double(), std, rtol=1e-6)
    indices = torch.tensor([690, 0, 0, 5], dtype=torch.int32)
    x, y = examples.batch(indices)
    expected = (pixels[indices] - pixels.mean((0, 2, 3))[:, None, None]) / std[:, None, None]
    assert x.dtype == torch.float32
    assert torch.allclose(x.double(), expected, atol=1e-5)
    assert y.tolist() == [690 % 4, 0, 0, 1]


def test_floating_images_keep_their_units_and_given_moments_are_used() -> None:
    examples = make(dtype=torch.float64, mean=[1.0, 2.0, 3.0], std=[1.0, 2.0, 4.0])
    x, _ = examples.batch(torch.tensor([3]))
    image = examples.images[3].float()
    expected = torch.stack([image[0] - 1, (image[1] - 2) / 2, (image[2] - 3) / 4])
    assert torch.equal(x[0], expected)
    assert torch.allclose(make(dtype=torch.float32).mean, make().mean * 255)


def test_a_constant_channel_becomes_zero_not_nan() -> None:
    images = torch.full((4, 1, 2, 2), 7, dtype=torch.uint8)
    x, _ = Examples(images, torch.zeros(4, dtype=torch.int64)).batch(torch.arange(4))
    assert torch.equal(x, torch.zeros(4, 1, 2, 2))


def test_fetching_leaves_the_images_alone() -> None:
    examples = make(dtype=torch.float32)
    before = examples.images.clone()
    examples.batch(torch.arange(12))
    assert torch.equal(examples.images, before)


def test_view_applies_the_augmentation_after_normalisation() -> None:
    op = FlipShift(shift=2)
    examples = make(augmentation=op)
    indices = torch.tensor([4, 9])
    plain, _ = examples.batch(indices)
    view, _ = examples.batch(indices, view=3, seed=8)
    assert torch.equal(view, op(plain, indices, view=3, seed=8))
    assert not torch.equal(view, plain)
    assert torch.equal(make().batch(indices, view=3)[0], plain)  # no augmentation, no change


def test_shape_length_device_and_protocol() -> None:
    examples = make()
    assert examples.shape == (3, 6, 6)
    assert len(examples) == 12
    assert examples.classes == ("0", "1", "2", "3")
    assert isinstance(examples, ExampleSource)
    moved = examples.to("cpu")
    assert moved.images is examples.images
    assert examples.to("meta").batch(torch.tensor([0]))[0].device.type == "meta"
    assert examples.device.type == "cpu"
    assert "12 of 3 x 6 x 6" in repr(examples)


def test_subset_is_numbered_anew_and_keeps_the_moments() -> None:
    examples = make()
    part = examples.subset(torch.tensor([8, 3]))
    assert torch.equal(part.batch(torch.tensor([1, 0]))[0], examples.batch(torch.tensor([3, 8]))[0])
    assert part.classes == examples.classes
    with pytest.raises(DataError, match="at least one"):
        examples.subset(torch.tensor([], dtype=torch.int64))


def test_pickle_keeps_batches() -> None:
    examples = make(augmentation=FlipShift(shift=1))
    again = pickle.loads(pickle.dumps(examples))
    indices = torch.arange(12)
    assert torch.equal(again.batch(indices, view=1)[0], examples.batch(indices, view=1)[0])


def test_an_empty_batch_is_empty() -> None:
    x, y = make(augmentation=FlipShift(shift=1)).batch(torch.tensor([], dtype=torch.int64), view=0)
    assert (x.shape, y.shape) == ((0, 3, 6, 6), (0,))


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        (torch.tensor([0, 12]), "index 12 is out of range"),
        (torch.tensor([0, -1]), "index -1 is out of range"),
        (torch.tensor([0.0]), "integers"),
        (torch.tensor([True] * 12), "integers"),
        (torch.tensor([[0]]), "one-dimensional"),
    ],
)
def test_bad_indices_are_named(indices: Tensor, text: str) -> None:
    with pytest.raises(DataError, match=text):
        make().batch(indices)


IMAGES = torch.zeros(3, 1, 2, 2)
LABELS = torch.tensor([0, 1, 2])


def spoilt(value: float) -> Tensor:
    images = torch.zeros(600, 1, 2, 2)
    images[530, 0, 1, 1] = images[590, 0, 0, 0] = value
    return images


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (IMAGES[:0], LABELS[:0], "no examples"),
        (torch.zeros(3, 0, 2, 2), LABELS, "no examples"),
        (IMAGES, LABELS[:2], "3 images, but 2 labels"),
        (IMAGES[:, 0], LABELS, r"use x\[:, None\]"),
        (torch.zeros(3, 5), LABELS, r"use x\[:, :, None, None\]"),
        (IMAGES.long(), LABELS, r"use x.float\(\)"),
        (IMAGES, LABELS[:, None, None], r"\(count,\)"),
        (IMAGES, LABELS > 0, r"use y.long\(\)"),
        (IMAGES, torch.tensor([0, -1, -2]), "example 1 has label -1"),
        (spoilt(float("nan")), torch.zeros(600).long(), "image 530 "),
        (spoilt(float("inf")).half(), torch.zeros(600).long(), "image 530 "),
        (IMAGES.numpy(), LABELS, "images must be a tensor, not a ndarray"),
        (IMAGES, [0, 1, 2], "labels must be a tensor, not a list"),
    ],
)
def test_bad_examples_are_refused_by_name(images: Tensor, labels: Tensor, text: str) -> None:
    with pytest.raises(DataError, match=text):
        Examples(images, labels)


def test_classes_and_labels_must_fit() -> None:
    with pytest.raises(DataError, match=r"example 2 has label 2, .*0\.\.1, for 2 classes"):
        Examples(IMAGES, LABELS, classes=("cat", "dog"))
    for classes in ("abc", (), (1, 2, 3)):
        with pytest.raises(DataError, match="non-empty sequence of strings"):
            Examples(IMAGES, LABELS, classes=classes)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="same name: dog"):
        Examples(IMAGES, LABELS, classes=("dog", "cat", "dog"))
    assert Examples(IMAGES, LABELS * 0).classes == ("0",)  # one class alone is fine
    assert Examples(IMAGES, LABELS * 0, classes=("a", "b")).classes == ("a", "b")


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        ([0.0, 0.0], [1.0], "mean must be 1 finite"),
        ([float("nan")], [1.0], "mean must be 1 finite"),
        ([0.0], [0.0], "std must be above 0"),
    ],
)
def test_bad_moments_are_refused(mean: list[float], std: list[float], text: str) -> None:
    with pytest.raises(DataError, match=text):
        Examples(IMAGES, LABELS, mean=mean, std=std)


def test_images_of_double_precision_are_left_as_they_are() -> None:
    images = torch.rand(3, 1, 2, 2, dtype=torch.float64)
    before = images.clone()
    Examples(images, LABELS)
    assert torch.equal(images, before)
