"""Checks of images, labels, indices and class names; what they raise names the culprit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..errors import DataError

_CHUNK = 512  # examples looked at together, so that checks need little memory beside the images


def as_indices(
    indices: Tensor,  # (count,) integer
    count: int,
) -> Tensor:
    """Return `indices` as int64, checked against [0, count) if they are on the CPU.

    Raises `DataError` if they are not one-dimensional, not integers, or out of range.
    """
    if indices.dim() != 1 or indices.is_floating_point() or indices.dtype == torch.bool:
        raise DataError(
            "indices must be a one-dimensional tensor of integers, got "
            f"{indices.dtype} of shape {tuple(indices.shape)}"
        )
    indices = indices.to(torch.int64)
    if indices.device.type == "cpu" and len(indices):
        low, high = (int(end) for end in torch.aminmax(indices))
        if low < 0 or high >= count:
            bad = low if low < 0 else high
            raise DataError(f"index {bad} is out of range: there are {count:,} examples, from 0")
    return indices


def as_subset(
    indices: Tensor,  # (some,) integer
    count: int,
) -> Tensor:
    """The same, and raises `DataError` for an empty set of examples."""
    indices = as_indices(indices, count)
    if not len(indices):
        raise DataError("a subset needs at least one index")
    return indices


_MOST_CLASSES = 100_000  # without names: more are a slip, and would fill the memory


def class_names(
    names: Sequence[str] | None,
    *,
    highest: int = 0,  # the highest label, for numbering classes without names
) -> tuple[str, ...]:
    """Return checked class names, or "0", "1", ..., str(highest) where no names are given.

    Raises `DataError` for a label that no class can have, no name at all, one that is not a string,
    or the same name twice.
    """
    if names is None and highest >= _MOST_CLASSES:
        raise DataError(
            f"the highest label is {highest:,}: number the classes from 0 without gaps, or name them"
        )
    if names is None:
        return tuple(str(label) for label in range(max(highest, 0) + 1))
    if isinstance(names, str) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"classes must be a non-empty sequence of strings, got {names!r}")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise DataError(f"two classes have the same name: {', '.join(twice)}")
    return tuple(names)


def as_channels(
    what: str,
    values: Tensor | Sequence[float],  # (channels,)
    channels: int,
) -> Tensor:
    """Return one finite number per channel as a float32 tensor.

    Raises `DataError` for another count of numbers, one that is NaN or infinite, or a "std" that is
    not above 0. `what` names the numbers.
    """
    tensor = torch.as_tensor(values, dtype=torch.float32)
    if tensor.shape != (channels,) or not bool(tensor.isfinite().all()):
        raise DataError(
            f"{what} must be {channels} finite numbers, one per channel, got {tensor.tolist()}"
        )
    if what == "std" and bool((tensor <= 0).any()):
        raise DataError(f"std must be above 0 in every channel, got {tensor.tolist()}")
    return tensor


def check_images(
    images: Tensor,  # (count, channels, height, width)
) -> None:
    """Raise `DataError` for no images, a wrong shape or type, or pixels that are NaN or infinite."""
    if not isinstance(images, Tensor):
        raise DataError(f"images must be a tensor, not a {type(images).__name__}")
    if images.dim() != 4:
        fix = {
            2: "; for plain vectors use x[:, :, None, None]",
            3: "; for images without channels use x[:, None]",
        }
        raise DataError(
            "images must be (count, channels, height, width), got shape "
            f"{tuple(images.shape)}{fix.get(images.dim(), '')}"
        )
    if images.numel() == 0:
        raise DataError(f"no examples: images have the shape {tuple(images.shape)}")
    if images.is_floating_point():
        for start, chunk in chunks(images):
            bad = (~chunk.isfinite().flatten(1).all(1)).nonzero()
            if len(bad):
                raise DataError(f"image {start + int(bad[0])} has a pixel that is NaN or infinite")
    elif images.dtype != torch.uint8:
        raise DataError(f"images must be uint8 or floating, got {images.dtype}; use x.float()")


def as_labels(labels: object) -> Tensor:
    """Labels as (count,) int64: given so, as (count, 1), as rows that are one-hot, or as whole floats.

    Raises `DataError` for anything else, with the first example that is wrong.
    """
    if not isinstance(labels, Tensor):
        raise DataError(f"labels must be a tensor, not a {type(labels).__name__}")
    if labels.dim() == 2 and labels.shape[1] > 1:
        one_hot = ((labels == 0) | (labels == 1)).all(1) & ((labels == 1).sum(1) == 1)
        if not bool(one_hot.all()):
            bad = int((~one_hot).nonzero()[0])
            raise DataError(
                f"labels have the shape {tuple(labels.shape)}, and row {bad} is not one-hot: give one class "
                "for each image"
            )
        return labels.to(torch.uint8).argmax(1)
    if labels.dim() == 2:
        labels = labels[:, 0]
    if labels.dim() != 1:
        raise DataError(f"labels must be (count,), got shape {tuple(labels.shape)}")
    if labels.is_complex() or labels.dtype == torch.bool:
        raise DataError(f"labels must be integers, got {labels.dtype}; use y.long()")
    if labels.is_floating_point():
        odd = (labels != labels.round()) | ~labels.isfinite()
        if bool(odd.any()):
            bad = int(odd.nonzero()[0])
            raise DataError(
                f"example {bad} has label {float(labels[bad]):g}: labels must be integers, one for each class"
            )
    return labels.to(torch.int64)


def check_labels(
    labels: Tensor,  # (count,), or as `as_labels` takes them
    count: int,
    classes: tuple[str, ...] | None = None,
) -> Tensor:
    """Return the labels as (count,) int64, after a look whether there is one for each of `count` images.

    Raises `DataError` as `as_labels`, and for another count, or a label that has none of the `classes`.
    """
    labels = as_labels(labels)
    if len(labels) != count:
        raise DataError(f"{count:,} images, but {len(labels):,} labels")
    if classes is not None:
        outside = ((labels < 0) | (labels >= len(classes))).nonzero()
        if len(outside):
            bad = int(outside[0])
            raise DataError(
                f"example {bad} has label {int(labels[bad])}, but labels must be in "
                f"0..{len(classes) - 1}, for {len(classes)} classes"
            )
    return labels


def chunks(images: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Walk over a few hundred examples at a time: each part's first index, and the part."""
    for start in range(0, len(images), _CHUNK):
        yield start, images[start : start + _CHUNK]
