"""Data sets by name: what `--data` understands."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..errors import SettingsError, UnknownNameError, unknown
from .augmentation import Augmentation, ResizedCrop, named_augmentation
from .bundle import Data
from .examples import Examples
from .folder import load_folder
from .imagenet import load_imagenet
from .mnist12k import load_mnist12k
from .npz import load_npz
from .preprocessing import named_preprocessing
from .preprocessing import preprocess as preprocessed
from .vision import VISION, load_vision

_EXAMPLES = {"npz": "npz:digits.npz", "folder": "folder:pictures/"}
_FROM_PATH: dict[str, Callable[[Path], Data]] = {"npz": load_npz, "folder": load_folder}


def list_data() -> dict[str, str]:
    """Return what `load` knows: names, each with a line that says what it is."""
    return {
        "mnist-12k": "handwritten digits of MNIST, 10,000 + 2,000 of 1 x 28 x 28; no download",
        **{name: known.about for name, known in VISION.items()},
        "imagenet": "ImageNet's pictures, 1.28 million of 1,000 kinds at 3 x 224 x 224; no download",
        "npz:PATH": "a NumPy file with x_train, y_train, x_test, y_test and, optionally, classes",
        "folder:PATH": "pictures of one size in PATH/train/CLASS/ and PATH/test/CLASS/ (or val)",
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
) -> Data:
    """Load a data set by its name in `list_data()`, into the CPU's memory, as uint8.

    `root` is where downloads are kept, `default_root()` if left out; nothing is downloaded that is
    there already. `augmentation` is an object or "none", "shift", "flip-shift" or "resized-crop"; it
    belongs to the training set and acts only where a view is asked for. `preprocess` is "none"
    (normalised channel by channel), "raw", "unit", "gcn", "gcn-zca" (or "gcn-zca:BIAS") or "lcn", see
    `preprocess`; a whitening matrix is kept below the root. ImageNet stays on disk, and takes the
    augmentation "resized-crop" only; no other data set takes that one.

    Raises `UnknownNameError` if no data set, augmentation or preprocessing has this name;
    `SettingsError` for npz or folder without a path, a path or a number where none belongs, or an
    augmentation or preprocessing that the data set does not take; `DataError`, which names file and
    fix, if the data are missing, damaged or malformed.
    """
    named_preprocessing(preprocess)  # a wrong name is an error before anything is read
    if isinstance(augmentation, str):
        augmentation = named_augmentation(augmentation)
    root = root or default_root()
    if name == "imagenet":
        if not isinstance(augmentation, ResizedCrop | None):
            raise SettingsError(f"imagenet takes the augmentation resized-crop, not {augmentation}")
        if preprocess != "none":
            raise SettingsError(
                "imagenet is normalised channel by channel: leave preprocessing at none"
            )
        return load_imagenet(root, augmentation=augmentation)
    if isinstance(augmentation, ResizedCrop):
        raise SettingsError(
            f"{name} is held in memory at one size, so resized-crop is not for it: take flip-shift"
        )
    kind, colon, path = name.partition(":")
    if kind in _FROM_PATH:
        if not path:
            raise SettingsError(f"data {name!r} needs a path, as in {_EXAMPLES[kind]}")
        data = _FROM_PATH[kind](Path(path).expanduser())
    elif colon and kind in list_data():
        raise SettingsError(f"data {kind!r} takes no path; its files are looked for in the root")
    elif name == "mnist-12k":
        data = load_mnist12k()
    elif name in VISION:
        data = load_vision(name, root, download=download)
    else:
        raise UnknownNameError(_unknown(name))
    data = preprocessed(data, preprocess, cache=root / "preprocessed")
    assert isinstance(data.train, Examples)  # every loader above keeps its images in memory
    data.train.augmentation = augmentation
    return data


def _unknown(name: str) -> str:
    if Path(name).is_dir():
        return f"there is no data set {name!r}; for a folder of pictures write folder:{name}"
    if name.endswith(".npz"):
        return f"there is no data set {name!r}; for a NumPy file write npz:{name}"
    return f"{unknown('data set', name, list_data())}; see also twostroke train --help"
