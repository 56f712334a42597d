"""Preprocessing as published: global and local contrast normalisation, ZCA whitening.

All of it is computed once, for every image by itself (whitening: with a matrix from the training set),
so that an image gives the same numbers in every batch. Images become float32: four
times the memory of uint8.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from .._files import replacing
from ..errors import DataError, SettingsError, UnknownNameError, unknown
from .bundle import Data
from .checks import chunks
from .examples import Examples

GCN_NORM = 55.0  # as ALL-CNN and NIN scale their images (Goodfellow et al. 2013)
ZCA_BIAS = 0.1


def gcn(
    images: Tensor,  # (count, channels, height, width), any units
    *,
    norm: float = GCN_NORM,
) -> Tensor:
    """Global contrast normalisation: minus the image's mean, scaled to the L2 norm `norm`.

    Mean and norm are over all channels and pixels of an image. An image of a single colour is left at
    zero. Returns the dtype of floating images, float32 for others.
    """
    x = images if images.is_floating_point() else images.float()
    flat = x.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    length = flat.norm(dim=1, keepdim=True)
    # rounding alone leaves some 1e-6 of a flat image's brightness
    tiny = 1e-6 * x.flatten(1).abs().amax(1, keepdim=True) * math.sqrt(flat.shape[1])
    return torch.where(length > tiny, flat * (norm / length.clamp(min=1e-30)), 0).view(x.shape)


def local_contrast(
    images: Tensor,  # (count, channels, height, width)
    *,
    size: int = 7,
    sigma: float = 2.0,
) -> Tensor:
    """Local contrast normalisation, each channel by itself (Jarrett et al. 2009; SVHN of NIN).

    `v` is the image minus its average in a Gaussian window of `size` pixels, `s` the root of the
    window's average of `v²`; the result is `v / max(s, mean of s over the image)`. At the borders the
    window's weights within the image are scaled to add up to 1. Raises `SettingsError` if `size` is
    even or below 1, or `sigma` is not positive.
    """
    if size < 1 or size % 2 == 0 or not sigma > 0:
        raise SettingsError(f"size must be odd and sigma positive, not {size} and {sigma}")
    x = images if images.is_floating_point() else images.float()
    # a window is separable: one matrix for rows, one for columns, as fast as BLAS is
    rows, columns = (_window(n, size, sigma, x) for n in x.shape[2:])

    def smooth(t: Tensor) -> Tensor:
        return rows @ t @ columns.T

    v = x - smooth(x)
    s = smooth(v.square()).sqrt()
    floor = s.mean((2, 3), keepdim=True)
    # rounding leaves this much of flat images
    tiny = 1e-6 * x.abs().amax((1, 2, 3), keepdim=True)
    return torch.where(floor > tiny, v / torch.maximum(s, floor).clamp(min=1e-30), 0)


def _window(length: int, size: int, sigma: float, like: Tensor) -> Tensor:
    """Matrix (length, length) that averages along one side, each row's weights adding up to 1."""
    place = torch.arange(length, dtype=torch.float64)
    apart = place[:, None] - place
    weight = torch.exp(-(apart**2) / (2 * sigma**2)).masked_fill(apart.abs() > size // 2, 0)
    return (weight / weight.sum(1, keepdim=True)).to(like)


@dataclass(frozen=True)
class Whitening:
    """ZCA: `(x - mean) @ matrix`, which has no correlations left; `fit` makes it.

    `mean` is (features,), `matrix` (features, features), symmetric; both float64.
    """

    mean: Tensor
    matrix: Tensor

    @classmethod
    def fit(
        cls,
        images: Tensor,  # (count, channels, height, width), floating
        *,
        bias: float = ZCA_BIAS,
    ) -> Whitening:
        """Fit on training images, in float64: `matrix = V (Λ + bias)^(-1/2) Vᵀ`.

        V and Λ are the eigenvectors and eigenvalues of the covariance (over the count). `bias` keeps
        weak components from being blown up. Where it is too small for that (0, or below the rounding
        error of a variance), such components are left out, so that data of deficient rank do not
        diverge. Raises `SettingsError` if `bias` is negative, `DataError` for fewer than two images.
        """
        if not 0 <= bias < math.inf:
            raise SettingsError(f"the filter bias of ZCA must be 0 or more, not {bias}")
        count, features = len(images), images[0].numel() if len(images) else 0
        if count < 2:
            raise DataError(f"whitening needs two images at least, got {count}")
        mean = torch.zeros(features, dtype=torch.float64)
        for _, part in chunks(images):
            mean += part.flatten(1).cpu().double().sum(0)
        mean /= count
        covariance = torch.zeros(features, features, dtype=torch.float64)
        for _, part in chunks(images):
            centred = part.flatten(1).cpu().double() - mean
            covariance.addmm_(centred.T, centred)
        values, vectors = torch.linalg.eigh(covariance / count)
        values = values.clamp(min=0)
        rounding = values[-1] * features * torch.finfo(torch.float64).eps
        scale = (values + bias).rsqrt()
        if bias <= rounding:
            scale[values <= rounding] = 0
        return cls(mean, (vectors * scale) @ vectors.T)

    def __call__(
        self,
        images: Tensor,  # (count, channels, height, width)
    ) -> Tensor:
        """Whitened images, float32, of the same shape; computed in float64."""
        out = torch.empty(images.shape, dtype=torch.float32)
        for start, part in chunks(images):
            white = (part.flatten(1).cpu().double() - self.mean) @ self.matrix
            out[start : start + len(part)] = white.view(part.shape)
        return out.to(images.device)


def preprocess(
    data: Data,
    name: str,
    *,
    cache: Path | None = None,
) -> Data:
    """Return `data` preprocessed by `name`, with the same augmentation.

    "none": as loaded, which is normalised channel by channel with the training set's mean and standard
    deviation. "raw": pixels as they are, 0 to 255 where they are bytes (MNIST in NIN); "unit": from 0
    to 1. "gcn": `gcn` of every image. "gcn-zca": that, then `Whitening` fitted on the training set (CIFAR
    in ALL-CNN and NIN), with the filter bias 0.1, or another as in "gcn-zca:0.01". "lcn": `gcn`,
    then `local_contrast` (SVHN in NIN). After any of them nothing else is done to the numbers.

    The whitening matrix is kept in the folder `cache`, by a hash of the training images and settings.
    Raises `UnknownNameError` if there is no such preprocessing, `SettingsError` for a bad filter bias,
    and `DataError` for images that are not in memory (`Examples`).
    """
    kind, bias = named_preprocessing(name)
    if kind == "none":
        return data
    train, test = data.train, data.test
    if not isinstance(train, Examples) or not isinstance(test, Examples):
        raise DataError(
            f"{data.name} is read picture by picture, so it cannot be preprocessed by {name!r}: "
            "leave preprocessing at 'none', which normalises channel by channel"
        )
    function, whiten = PREPROCESSING[kind], None
    x, x_test = (_by_parts(part.images, function) for part in (train, test))
    if kind == "gcn-zca":
        whiten = _whitening(x, bias, cache)
        x, x_test = whiten(x), whiten(x_test)
    note = f"{data.note}, preprocessed by {name}"
    return replace(
        data,
        train=_with(train, x),
        test=_with(test, x_test),
        note=note,
        whitening=whiten,
        of_bytes=not train.images.is_floating_point(),
    )


PREPROCESSING: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "raw": lambda x: x.float(),
    "unit": lambda x: x.float() / (1 if x.is_floating_point() else 255),
    "gcn": gcn,
    "gcn-zca": gcn,
    "lcn": lambda x: local_contrast(gcn(x)),
}


def named_preprocessing(name: str) -> tuple[str, float]:
    """The key of `PREPROCESSING` in a name such as "lcn" or "gcn-zca:0.01", and ZCA's filter bias.

    Raises `UnknownNameError` if there is no such preprocessing, and `SettingsError` for a bias that is
    not a number of 0 or more, or belongs to no ZCA.
    """
    kind, colon, text = name.partition(":")
    if kind not in PREPROCESSING:
        raise UnknownNameError(unknown("preprocessing", kind, PREPROCESSING))
    if not colon:
        return kind, ZCA_BIAS
    if kind != "gcn-zca":
        raise SettingsError(f"preprocessing {kind!r} takes no number, as {name!r} has")
    with suppress(ValueError):
        if 0 <= (bias := float(text)) < math.inf:
            return kind, bias
    raise SettingsError(
        f"the filter bias of ZCA must be a number, 0 or more, as in gcn-zca:0.01, not {text!r}"
    )


def _by_parts(images: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    out = torch.empty(images.shape, dtype=torch.float32, device=images.device)
    for start, part in chunks(images):
        out[start : start + len(part)] = function(part)
    return out


def _with(source: Examples, images: Tensor) -> Examples:
    channels = images.shape[1]
    return Examples(
        images,
        source.labels,
        mean=[0.0] * channels,
        std=[1.0] * channels,
        augmentation=source.augmentation,
        classes=source.classes,
    )


def _whitening(images: Tensor, bias: float, cache: Path | None) -> Whitening:
    """Fit, or read what was fitted to the same images before; a damaged file is replaced."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    if cache is None:
        return Whitening.fit(images, bias=bias)
    state = hashlib.sha256(f"zca 1 {tuple(images.shape)} {bias!r}".encode())
    for _, part in chunks(images):
        state.update(part.contiguous().cpu().numpy().data)
    file = cache / f"zca-{state.hexdigest()[:24]}.safetensors"
    with suppress(OSError, SafetensorError, KeyError):
        kept = load_file(file)
        return Whitening(kept["mean"], kept["matrix"])
    whiten = Whitening.fit(images, bias=bias)
    with suppress(OSError, SafetensorError):  # a folder that cannot be written costs only time
        cache.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial:
            save_file({"mean": whiten.mean, "matrix": whiten.matrix.contiguous()}, partial)
    return whiten
