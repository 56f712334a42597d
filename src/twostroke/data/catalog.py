"""Data sets by name: what `--data` understands."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path

from ..errors import SettingsError, UnknownNameError
from . import augment
from .bundle import Data
from .examples import Examples
from .folder import load_folder
from .imagenet import load_imagenet
from .mnist12k import load_mnist12k
from .npz import load_npz
from .preprocessing import named_preprocessing
from .preprocessing import preprocess as preprocessed
from .vision import VISION, load_vision

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
    augmentation: str | None = None,
    preprocess: str = "none",
) -> Data:
    """Load a data set by its name in `list_data()`, into the CPU's memory, as uint8.

    `root` is where downloads are kept, `default_root()` if left out; nothing is downloaded that is
    there already. `augmentation` is a name that `augmentation()` knows; it belongs to the training
    set and acts only where a view is asked for. `preprocess` is "none" (normalised channel by channel),
    "raw", "unit", "gcn", "gcn-zca" (or "gcn-zca:BIAS") or "lcn", see `preprocess`; a whitening matrix is
    kept below the root. ImageNet stays on disk and knows the augmentation "resized-crop" only.

    Raises:
        UnknownNameError: no data set, augmentation or preprocessing has this name.
        SettingsError: npz or folder without a path, or a path or a number where none belongs.
        DataError: the data are missing, damaged or malformed; the text names file and fix.
    """
    named_preprocessing(preprocess)  # a wrong name is told before anything is read
    if name == "imagenet":
        if augmentation not in (None, "none", "resized-crop"):
            raise SettingsError(f"imagenet has the augmentation resized-crop, not {augmentation!r}")
        if preprocess != "none":
            raise SettingsError(
                "imagenet is normalised channel by channel: leave preprocessing at none"
            )
        return load_imagenet(root or default_root(), augment=augmentation == "resized-crop")
    draws = augment.augmentation(augmentation) if augmentation is not None else None
    kind, colon, path = name.partition(":")
    if kind in _FROM_PATH:
        if not path:
            raise SettingsError(f"data {name!r} needs a path, as in {kind}:{_example(kind)}")
        data = _FROM_PATH[kind](Path(path).expanduser())
    elif colon and kind in list_data():
        raise SettingsError(f"data {kind!r} takes no path; its files are looked for in the root")
    elif name == "mnist-12k":
        data = load_mnist12k()
    elif name in VISION:
        data = load_vision(name, root or default_root(), download=download)
    else:
        raise UnknownNameError(_unknown(name))
    data = preprocessed(data, preprocess, cache=(root or default_root()) / "preprocessed")
    if draws is not None:
        assert isinstance(data.train, Examples)  # every loader above keeps its images in memory
        data.train.augmentation = draws
    return data


def _example(kind: str) -> str:
    return "digits.npz" if kind == "npz" else "pictures/"


def _unknown(name: str) -> str:
    text = f"no data set {name!r}"
    if Path(name).is_dir():
        text += f"; for a folder of pictures write folder:{name}"
    elif name.endswith(".npz"):
        text += f"; for a NumPy file write npz:{name}"
    else:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), list_data(), n=3)
        text += f"; did you mean {' or '.join(near)}?" if near else ""
    text += "" if text.endswith("?") else "."
    return f"{text} There are {', '.join(list_data())}; see also twostroke train --help"
