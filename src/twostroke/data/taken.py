"""Images and labels as people have them: brought to one form, or refused by name."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .checks import check_images

_MOST_CHANNELS = 4
_SAMPLES, _FEWEST = 256, 8  # images that two sets are compared on; so few say nothing
_APART = 10.0  # times the spread of another set: no two halves of a data set differ so much


def as_tensor(values: object, what: str) -> Tensor:
    """A tensor of a tensor or an array of NumPy, in any order of memory; `what` names it.

    Raises `DataError` for anything else, masked values, and types that PyTorch has not.
    """
    if isinstance(values, Tensor):
        return values
    if not isinstance(values, np.ndarray):
        raise DataError(
            f"{what} must be a tensor or an array of NumPy, not a {type(values).__name__}"
        )
    if masked := int(np.ma.count_masked(values)):
        raise DataError(
            f"{what} is a masked array, in which {masked:,} values are masked: fill them, or leave these "
            "examples out"
        )
    plain = np.ma.getdata(values)
    try:
        native = plain.astype(plain.dtype.newbyteorder("="), copy=False)
        return torch.from_numpy(np.require(native, requirements=["C", "W"]))
    except TypeError as error:
        raise DataError(f"{what} has values of type {plain.dtype}, which are no numbers") from error


def as_images(images: Tensor) -> tuple[Tensor, str]:
    """Images as (count, channels, height, width), and what a note says of that, if anything.

    Taken are also (count, height, width), and channels at the end, where there are up to 4 there and more
    than 4 in front. Raises `DataError` as `check_images`.
    """
    if images.dim() == 3:
        images = images[:, None]
    check_images(images)
    if is_channels_last(images[0]):
        images = images.permute(0, 3, 1, 2).contiguous()
        return images, "channels were moved from the end to the front"
    return images, ""


def is_channels_last(
    image: Tensor,  # (height, width, channels) or (channels, height, width)
) -> bool:
    """Whether the last of three sides is that of channels; of floats also signals of width 1 are known."""
    first, second, last = image.shape
    if not first > _MOST_CHANNELS >= last:
        return False
    return image.dtype == torch.uint8 or (second > _MOST_CHANNELS and (last > 1 or first == second))


def in_units_of(
    train: Tensor,  # (count, channels, height, width)
    test: Tensor,
) -> tuple[Tensor, str]:
    """Test images in the units of the training images, and what a note says of that, if anything.

    Bytes and floats from 0 to 1 mean the same, as `Examples` takes them; bytes and floats from 0 to 255 do
    not. Raises `DataError` for bytes beside floats of another range, and sets that are spread otherwise.
    """
    floats = [images for images in (train, test) if images.is_floating_point()]
    told = ""
    if len(floats) == 1:
        low, high = (float(end) for end in torch.aminmax(floats[0]))
        if low < 0 or high > 255:
            names = ("training", "test") if train.is_floating_point() else ("test", "training")
            raise DataError(
                f"{names[0]} images are {floats[0].dtype} from {low:.3g} to {high:.3g}, and {names[1]} images "
                "are bytes: prepare both in the same way"
            )
        if high > 1:
            test = test.float() if train.is_floating_point() else test / 255
            told = "test images were brought to the units of the training images"
    check_alike(train, test)
    return test, told


def check_alike(train: Tensor, test: Tensor) -> None:
    """Raise `DataError` where images of two sets are not in the same units, as far as numbers can tell."""
    parts = []
    for images in (train, test):
        some = images[:: max(1, len(images) // _SAMPLES)].float()
        parts.append(some if images.is_floating_point() else some / 255)
    spreads = [float(part.std(correction=0)) for part in parts]
    if min(spreads) == 0 or min(len(train), len(test)) < _FEWEST:
        return
    signed = [float((part < 0).float().mean()) for part in parts]
    if max(spreads) > _APART * min(spreads) or (max(signed) > 0.05 and min(signed) == 0):
        told = [
            f"{name} images from {float(part.min()):.3g} to {float(part.max()):.3g} (std {spread:.3g})"
            for name, part, spread in zip(("training", "test"), parts, spreads, strict=True)
        ]
        raise DataError(
            f"{' and '.join(told)} are not in the same units: prepare both in the same way. If they are meant "
            "so, give Data(name, train, test) of sources, which is taken as it is"
        )
