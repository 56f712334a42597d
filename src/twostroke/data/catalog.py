"""Data sets by name: what `--data` understands."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ..errors import SettingsError, UnknownNameError, unknown
from .augmentation import Augmentation, ResizedCrop, named_augmentation
from .bundle import Data
from .decoding import Told, silent
from .examples import Examples
from .folder import load_folder
from .imagenet import load_imagenet
from .mnist12k import load_mnist12k
from .npz import load_npz
from .pictures import Pictures
from .preparation import Preparation
from .preprocessing import named_preprocessing
from .preprocessing import preprocess as preprocessed
from .vision import VISION, load_vision

_EXAMPLES = {"npz": "npz:digits.npz", "folder": "folder:pictures/"}


def list_data() -> dict[str, str]:
    """Return what `load` knows: names, each with a line that says what it is."""
    return {
        "mnist-12k": "handwritten digits of MNIST, 10,000 + 2,000 of 1 x 28 x 28; no download",
        **{name: known.about for name, known in VISION.items()},
        "imagenet": "ImageNet's pictures, 1.28 million of 1,000 kinds at 3 x 224 x 224; no download",
        "npz:PATH": "a NumPy file with x_train, y_train, x_test, y_test and, optionally, classes",
        "folder:PATH": "pictures in PATH/train/CLASS/ and PATH/val/CLASS/, or in PATH/CLASS/ with a split",
    }


def default_root() -> Path:
    """Return where downloads are kept: $TWOSTROKE_DATA, or else ~/.cache/twostroke."""
    return Path(os.environ.get("TWOSTROKE_DATA") or "~/.cache/twostroke").expanduser()


def load(
    name: str,
    *,
    root: Path | None = None,
    download: bool = True,
    augmentation: str | Augmentation | ResizedCrop | None = None,
    preprocess: str = "none",
    image_size: int | None = None,
    split: float | None = None,
    split_seed: int = 0,
    prepared: Preparation | None = None,
    told: Told = silent,
) -> Data:
    """Load a data set by its name in `list_data()`, into the CPU's memory, as uint8.

    `root` is where downloads are kept, `default_root()` if left out; nothing is downloaded that is
    there already. `augmentation` is an object or "none", "shift", "flip-shift" or "resized-crop"; it
    belongs to the training set and acts only where a view is asked for. `preprocess` is "none"
    (normalised channel by channel), "raw", "unit", "gcn", "gcn-zca" (or "gcn-zca:BIAS") or "lcn", see
    `preprocess`; a whitening matrix is kept below the root. ImageNet stays on disk, and so does a folder
    where `load_folder` says so; then images are only normalised.

    `image_size`, `split` and `split_seed` are for folders, see `load_folder`; ImageNet takes the first. Those
    two alone take "resized-crop". `prepared` says what weights that are trained already want of images. `told`
    hears how far the work is.

    Raises `UnknownNameError` if no data set, augmentation or preprocessing has this name;
    `SettingsError` for npz or folder without a path, a path or a number where none belongs, or an option
    that the data set does not take; `DataError`, which names file and fix, if the data are missing, damaged
    or malformed.
    """
    named_preprocessing(preprocess)  # a wrong name is an error before anything is read
    if isinstance(augmentation, str):
        augmentation = named_augmentation(augmentation)
    root = root or default_root()
    kind, colon, rest = name.partition(":")
    path = Path(rest).expanduser()
    if kind in _EXAMPLES and not rest:
        raise SettingsError(f"data {name!r} needs a path, as in {_EXAMPLES[kind]}")
    if colon and kind in list_data():
        raise SettingsError(f"data {kind!r} takes no path; its files are looked for in the root")
    if image_size is not None and image_size < 1:
        raise SettingsError(f"image_size is a number of pixels, 1 or more, not {image_size}")
    if kind not in ("folder", "imagenet"):
        if image_size is not None:
            raise SettingsError(f"images of {name} have their size: leave image_size out")
        if isinstance(augmentation, ResizedCrop):
            raise SettingsError(
                f"{name} is held in memory at one size, so resized-crop is not for it: take flip-shift"
            )
    if kind == "imagenet" and preprocess != "none":
        raise SettingsError(
            "imagenet is normalised channel by channel: leave preprocessing at none"
        )
    if split is not None and kind != "folder":
        raise SettingsError(f"{name} is divided into training and test set: leave split out")
    if kind == "folder":
        data = load_folder(
            path,
            size=image_size,
            augmentation=augmentation,
            split=split,
            split_seed=split_seed,
            prepared=prepared,
            told=told,
        )
    elif kind == "imagenet":
        like = prepared or Preparation()
        size = image_size or like.size or 224
        data = load_imagenet(root, augmentation=augmentation, size=size, crop=like.crop, told=told)
    elif kind == "npz":
        data = load_npz(path)
    elif name == "mnist-12k":
        data = load_mnist12k()
    elif name in VISION:
        data = load_vision(name, root, download=download)
    else:
        raise UnknownNameError(_unknown(name))
    data = preprocessed(data, preprocess, cache=root / "preprocessed")
    assert isinstance(data.train, Examples | Pictures)
    data.train.augmentation = augmentation
    if prepared is not None:
        data = replace(data, train=prepared.of(data.train), test=prepared.of(data.test))
    return data


def _unknown(name: str) -> str:
    if Path(name).is_dir():
        return f"there is no data set {name!r}; for a folder of pictures write folder:{name}"
    if name.endswith(".npz"):
        return f"there is no data set {name!r}; for a NumPy file write npz:{name}"
    return f"{unknown('data set', name, list_data())}; see also twostroke train --help"
