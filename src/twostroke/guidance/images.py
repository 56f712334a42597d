"""The images of a guide: a source of them, and what tells them from others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..data import Examples, ExampleSource
from ..errors import DataError, SupportMismatchError

_SAMPLES = 64


def as_source(images: object) -> ExampleSource:
    """A source of examples as it is, or a tensor of preprocessed images; `DataError` for anything else."""
    if isinstance(images, Tensor) and images.is_floating_point() and images.ndim == 4:
        channels, labels = images.shape[1], torch.zeros(len(images), dtype=torch.int64)
        return Examples(
            images, labels, mean=[0.0] * channels, std=[1.0] * channels, classes=("unknown",)
        )
    if isinstance(images, ExampleSource):
        return images
    told = type(images).__name__
    if isinstance(images, Tensor):
        told = f"{images.dtype} of {tuple(images.shape)}"
    raise DataError(
        "images are a source of examples (Data.train, Examples(...)) or a tensor of preprocessed images, "
        f"(count, channels, height, width) and floating, not {told}"
    )


@dataclass(frozen=True)
class Seen:
    """Images as a teacher has met them: number, shape, a hash of some, mean and spread by channel."""

    count: int
    shape: tuple[int, int, int]
    fingerprint: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, source: ExampleSource, seed: int) -> Seen:
        """Look at 64 images as view 0 shows them; labels and classes do not count."""
        count = len(source)
        some = torch.arange(min(_SAMPLES, count)) * count // min(_SAMPLES, count)
        x = source.batch(some, view=0, seed=seed)[0].detach().cpu().float().contiguous()
        state = hashlib.blake2b(f"{count} {tuple(source.shape)}\n".encode(), digest_size=16)
        state.update(x.numpy().tobytes())
        wide = x.double()
        mean, std = wide.mean((0, 2, 3)), wide.std((0, 2, 3), correction=0)
        shape = source.shape
        return cls(count, shape, state.hexdigest(), tuple(mean.tolist()), tuple(std.tolist()))

    def check(self, other: Seen) -> None:
        """Raise `SupportMismatchError` where `other` are not these images; say so if only scaled otherwise."""
        if other.shape != self.shape or other.count != self.count:
            raise SupportMismatchError(
                f"the guide is of {self.count:,} images of {_size(self.shape)}, and these are "
                f"{other.count:,} of {_size(other.shape)}: give the images that it was recorded from"
            )
        if other.fingerprint == self.fingerprint:
            return
        told = f"mean {_few(self.mean)} and std {_few(self.std)} by channel"
        mine = f"mean {_few(other.mean)} and std {_few(other.std)}"
        off = [
            abs(a - b) > 0.3 * max(s, 1e-6) or not 0.75 < (t + 1e-6) / (s + 1e-6) < 1.33
            for a, b, s, t in zip(self.mean, other.mean, self.std, other.std, strict=True)
        ]
        if any(off):
            raise SupportMismatchError(
                f"these images have {mine}, and the guide's had {told}, as the teacher met them: preprocess "
                "them as the teacher's were, with the same mean and std of normalisation"
            )
        raise SupportMismatchError(
            f"these are not the images that the guide was recorded from, or in another order: they have "
            f"{mine}, the guide's {told}"
        )

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for headers."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Seen:
        """Undo `to_json`; raises `ValueError`, `LookupError` or `TypeError`."""
        channels, height, width = (int(n) for n in entry["shape"])
        return cls(
            int(entry["count"]),
            (channels, height, width),
            str(entry["fingerprint"]),
            tuple(float(n) for n in entry["mean"]),
            tuple(float(n) for n in entry["std"]),
        )


def _size(shape: tuple[int, int, int]) -> str:
    return "×".join(map(str, shape))


def _few(numbers: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{n:.3g}" for n in numbers[:4]) + (", …)" if len(numbers) > 4 else ")")
