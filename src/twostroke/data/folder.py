"""A data set in a folder of pictures, one folder per class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from ..errors import DataError, SettingsError
from .augmentation import Augmentation, ResizedCrop
from .bundle import Data
from .decoding import Header, Told, check_pictures, each, header, silent
from .picture_files import Split, divided, find_splits, passed_over
from .pictures import Pictures
from .preparation import Preparation

TESTS = ("test", "val", "valid", "validation")
_HELD = 2 << 30  # bytes; more pictures than that stay on disk, and are decoded at every use


def load_folder(
    path: Path,
    *,
    size: int | None = None,
    augmentation: Augmentation | ResizedCrop | None = None,
    split: float | None = None,
    split_seed: int = 0,
    prepared: Preparation | None = None,
    told: Told = silent,
) -> Data:
    """Read PATH/train/CLASS/* and PATH/test/CLASS/* (or PATH/val, if there is no test).

    `split` is a share of each class to test on, drawn by `split_seed`, where there is no test folder; then
    the classes may also lie in PATH itself. `size` is what pictures are brought to, as `Pictures` does;
    left out, it is that of `prepared`, or else the one that all have. There is 1 channel if every picture
    is grey, otherwise there are 3. What is done to pictures is counted in the note.

    Up to 2 GB are decoded once, and held; more, or with `ResizedCrop`, are decoded at every use. They are
    normalised as `prepared` says; else by ImageNet's mean and std if they have a `size`, and by the training
    set's own if they are held as they are. `told` hears how far the work is.

    Raises `DataError`, which names the file or folder, if the folder, a split or a class is missing or empty,
    the splits differ in classes or have only one, or pictures are broken or of several sizes without `size`.
    Raises `SettingsError` for a `split` that is out of range or not wanted.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    splits, tested = _splits(path, split, split_seed, told)
    files = [file for one in splits for file in one.files]
    heads = each(header, files, "looking at pictures", told)
    channels = 1 if all(head.grey for head in heads) else 3
    if prepared is not None:
        channels, size = prepared.channels(channels), size or prepared.size
    if size is None and isinstance(augmentation, ResizedCrop):
        raise SettingsError("resized-crop needs the size of an image: --image-size 224")
    whole = size or _one_size(files, heads)
    side = (whole, whole) if isinstance(whole, int) else whole
    held = len(files) * channels * side[0] * side[1] <= _HELD
    held &= not isinstance(augmentation, ResizedCrop)
    if not held:
        check_pictures(files, told)
    note = " + ".join(f"{len(one.files):,}" for one in splits)
    note += f" images of {path.name or path.resolve().name}"
    if size is not None:
        note += f", brought to {size} x {size}"
    note += f" (tested on {tested})" + _changes(heads, channels) + passed_over(splits)
    train, test = (
        Pictures(
            one.files,
            torch.tensor(one.labels),
            classes=one.classes,
            size=whole,
            channels=channels,
            augmentation=augmentation if one is splits[0] else None,
            **({} if prepared is None else prepared.options()),
        )
        for one in splits
    )
    name, crop = f"folder:{path}", 1.0 if size is None else train.crop
    if not held:
        return Data(name, train, test, note=note, crop=crop)
    # pictures that are taken as they are have their own mean and std, unless they are to be as others were
    own = size is None and (prepared is None or prepared.mean is None)
    x = train.in_memory(told, own_moments=own)
    if own:
        test.mean, test.std = x.mean, x.std
    return Data(name, x, test.in_memory(told), note=note, crop=crop)


def _splits(path: Path, share: float | None, seed: int, told: Told) -> tuple[Sequence[Split], str]:
    """Training and test set, and what the latter is."""
    test = next((path / name for name in TESTS if (path / name).is_dir()), None)
    train = path / "train"
    if share is None:
        if train.is_dir() and test is not None:
            return find_splits(train, test, told=told), test.name
        lacking = " or ".join(TESTS[:2]) if train.is_dir() else "train"
        raise DataError(
            f"{path} has no folder {lacking}: put pictures in train/CLASS/ and test/CLASS/. "
            "Training can do without them: --split 0.2 (split=0.2) sets a share of each class aside to test on"
        )
    if train.is_dir() and test is not None:
        raise SettingsError(f"{path} has a folder {test.name} to test on: leave split out")
    (whole,) = find_splits(train if train.is_dir() else path, told=told)
    return divided(whole, share, seed), f"{100 * share:g} % of each class, drawn by seed {seed}"


def _one_size(files: Sequence[Path], heads: Sequence[Header]) -> tuple[int, int]:
    """The (height, width) that all pictures have."""
    width, height = heads[0].size
    other = next((k for k, head in enumerate(heads) if head.size != (width, height)), None)
    if other is not None:
        w, h = heads[other].size
        raise DataError(
            f"{files[other]} has {w} x {h} pixels, but {files[0]} has {width} x {height}: say to which size "
            "all are brought, by --image-size 224 (image_size=224)"
        )
    return height, width


def _changes(heads: Sequence[Header], channels: int) -> str:
    """What a note says of pictures that were changed."""
    changes = Counter(kind for head in heads for kind in head.changes)
    if channels == 3:
        changes["grey, given three equal channels"] = sum(head.grey for head in heads)
    else:
        changes["of colour, made grey"] = sum(not head.grey for head in heads)
    told = ", ".join(f"{count:,} {kind}" for kind, count in sorted((+changes).items()))
    return f"; among them {told}" if told else ""
