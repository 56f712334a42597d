"""How a picture becomes the tensor that a network takes, as it was in training."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .augmentation import middle
from .bundle import Data
from .decoding import decoded, opened
from .examples import Examples, normalised
from .pictures import centred
from .preprocessing import PREPROCESSING, Whitening, named_preprocessing

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = str | os.PathLike[str] | Image | np.ndarray | Tensor

_THREADS = min(16, os.cpu_count() or 1)


@dataclass(frozen=True, eq=False)
class PictureToTensor:
    """Makes of a picture the tensor that a network takes: (channels, height, width) float32.

    A picture is the path of a file, a PIL image, or an array of bytes: a NumPy array (height, width) or
    (height, width, 3), a tensor (3, height, width) or (1, height, width). Of any size: the largest middle of
    the right shape, `crop` times as wide and high, is resized to the network's size, as `Pictures` does it for
    a test set; a picture that has the size already stays as it is. One channel is grey, three are colours.

    Pixels in [0, 1] become (p - mean) / std by channel, or all of the picture is prepared by `preprocess`, as
    `load(preprocess=...)` takes it, with the training set's `whitening`. Where the training set was not of
    bytes (`of_bytes`), only an array of numbers in its own units can be prepared: floating,
    (channels, height, width).

    Raises `DataError` for a file that is not a picture or broken, by name, and for an array that is neither.
    """

    shape: tuple[int, int, int]
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    preprocess: str = "none"
    crop: float = 1.0
    of_bytes: bool = True
    whitening: Whitening | None = None

    @classmethod
    def of(cls, data: Data, preprocess: str = "none") -> PictureToTensor:
        """As the test images of these data are prepared, which `preprocess` has been done to."""
        source, of_bytes = data.test, data.of_bytes
        mean, std = None, None
        if preprocess == "none":
            mean, std = getattr(source, "mean", None), getattr(source, "std", None)
            if isinstance(source, Examples):
                of_bytes = not source.images.is_floating_point()
        return cls(
            source.shape,
            tuple(mean.tolist()) if isinstance(mean, Tensor) else None,
            tuple(std.tolist()) if isinstance(std, Tensor) else None,
            preprocess,
            data.crop,
            of_bytes,
            data.whitening,
        )

    def __call__(self, picture: Picture) -> Tensor:  # (channels, height, width)
        """Prepare one picture."""
        return self.batch(self.pixels(picture)[None])[0]

    def batch(
        self,
        images: Tensor,  # (batch, channels, height, width), as `pixels` gives them
    ) -> Tensor:
        """Prepare images that have their size already, all at once, on their device."""
        kind, _ = named_preprocessing(self.preprocess)
        x = PREPROCESSING[kind](images)
        if self.whitening is not None:
            return self.whitening(x)
        if kind != "none" or self.mean is None or self.std is None:
            return x.float()
        return normalised(images.clone(), torch.tensor(self.mean), torch.tensor(self.std))

    def pixels(self, picture: Picture) -> Tensor:  # (channels, height, width) uint8, or floating
        """Of the size that the network takes, but the numbers as they are."""
        if isinstance(picture, np.ndarray | Tensor):
            return self._array(torch.as_tensor(picture), channels_first=isinstance(picture, Tensor))
        if isinstance(picture, str | os.PathLike):
            with opened(Path(picture)) as image:
                return self._middle(image)
        return self._middle(picture.copy())  # which is turned in place

    def _array(self, array: Tensor, *, channels_first: bool) -> Tensor:
        import PIL.Image

        if array.is_floating_point():
            if array.shape == self.shape:
                return array
        elif array.dtype == torch.uint8:
            if array.shape == self.shape and self.crop == 1.0:
                return array
            if array.dim() == 3 and channels_first:
                array = array.permute(1, 2, 0)
            if array.dim() == 3 and array.shape[2] == 1:
                array = array[:, :, 0]
            if array.dim() == 2 or (array.dim() == 3 and array.shape[2] in (3, 4)):
                return self._middle(PIL.Image.fromarray(array.contiguous().numpy()))
        raise DataError(
            "an array is a picture where it is of bytes, (height, width) or (height, width, 3), or floating "
            f"and {self.shape}; this is {array.dtype} of {tuple(array.shape)}"
        )

    def _middle(self, image: Image) -> Tensor:
        from PIL.Image import Resampling

        channels, high, wide = self.shape
        if not self.of_bytes or channels not in (1, 3):
            raise DataError(
                "the training images were not pictures but numbers in units of their own: give arrays of such "
                f"numbers, {self.shape}"
            )
        image = decoded(image, channels)
        if high == wide:
            fit = centred(image, wide, self.crop)
            return torch.from_numpy(np.array(fit)).view(high, wide, channels).permute(2, 0, 1)
        width, height = image.size
        if width * high <= height * wide:  # all of its width, or all of its height
            w, h = float(width), width * high / wide
        else:
            w, h = height * wide / high, float(height)
        box = middle(width, height, self.crop * w, self.crop * h)
        # a copy where the box is all of it and has the size
        fit = image.resize((wide, high), Resampling.BILINEAR, box=box)
        return torch.from_numpy(np.array(fit)).view(high, wide, channels).permute(2, 0, 1)


def read_batches(
    to_tensor: PictureToTensor, files: Sequence[Path], batch_size: int
) -> Iterator[tuple[list[Path], Tensor, list[DataError]]]:
    """Pixels of files, decoded by several threads, a batch ahead of the one that is asked for.

    Each batch has the files that could be read, their pixels (see `PictureToTensor.pixels`), and the errors of
    the others.
    """

    def read(file: Path) -> Tensor | DataError:
        try:
            return to_tensor.pixels(file)
        except DataError as error:
            return error

    with ThreadPoolExecutor(_THREADS) as pool:
        ahead: list[list[Future[Tensor | DataError]]] = []
        parts = [files[start : start + batch_size] for start in range(0, len(files), batch_size)]
        for k, part in enumerate(parts):
            while len(ahead) <= min(k + 1, len(parts) - 1):
                ahead.append([pool.submit(read, file) for file in parts[len(ahead)]])
            found, ahead[k] = [future.result() for future in ahead[k]], []
            good = [pixels for pixels in found if isinstance(pixels, Tensor)]
            yield (
                [
                    file
                    for file, pixels in zip(part, found, strict=True)
                    if isinstance(pixels, Tensor)
                ],
                torch.stack(good) if good else torch.empty(0, *to_tensor.shape),
                [error for error in found if isinstance(error, DataError)],
            )
