"""Picture files in folders: found, and divided into a training and a test set."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import DataError, SettingsError
from .decoding import Told, silent

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
)  # torchvision's
_SHOWN = 5


@dataclass(frozen=True)
class Split:
    """The pictures of one split in the order of classes, folders and names, each with its label.

    `others` counts what is passed over, by kind.
    """

    folder: Path
    classes: tuple[str, ...]
    files: list[Path]
    labels: list[int]
    others: Counter[str]


def walk(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Pictures at any depth below a folder, in the order of folders and names, and what was passed over.

    Pictures are told by their suffix. Files and folders whose name begins with a dot are left out. Links
    to folders are followed, but no folder is read twice. Raises `DataError` for a folder that cannot be
    read.
    """
    files: list[tuple[str, str]] = []
    others: Counter[str] = Counter()
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error

    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            others["by links to folders read already"] += 1
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            suffix = Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in SUFFIXES:
                files.append((place, name))
            else:
                others[suffix or "without a suffix"] += 1
    return [Path(place, name) for place, name in sorted(files)], others


def find_pictures(folder: Path) -> list[Path]:
    """The same pictures alone; `DataError` for a folder without pictures."""
    files, _ = walk(folder)
    if not files:
        if not folder.is_dir():
            raise DataError(f"{folder}: there is no such folder")
        raise DataError(f"{folder} has no pictures ({', '.join(sorted(SUFFIXES))})")
    return files


def find_splits(*folders: Path, told: Told = silent) -> list[Split]:
    """Find the pictures FOLDER/CLASS/*, at any depth below their class, of a data set's splits.

    `told` hears how many classes are looked through.
    Raises `DataError` if a split has less than two class folders, a class no pictures, or splits differ in
    classes.
    """
    splits = [_find(folder, told) for folder in folders]
    lacking = [
        f"{split.folder} lacks {name}"
        for split in splits
        for name in sorted({name for other in splits for name in other.classes})
        if name not in split.classes
    ]
    if lacking:
        more = f"; and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        raise DataError(
            f"all splits need the same class folders: {'; '.join(lacking[:_SHOWN])}{more}"
        )
    if len(splits[0].classes) < 2:
        only = f"{splits[0].folder} has one class folder, {splits[0].classes[0]}"
        raise DataError(f"{only}: training needs two")
    return splits


def _find(split: Path, told: Told) -> Split:
    entries = [entry for entry in split.iterdir() if not entry.name.startswith(".")]
    classes = tuple(sorted(entry.name for entry in entries if entry.is_dir()))
    if not classes:
        raise DataError(f"{split} has no class folders; put pictures in {split}/CLASS/")
    others = Counter({"outside class folders": len(entries) - len(classes)})
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found, passed = walk(split / name)
        if not found:
            raise DataError(
                f"class folder {split / name} has no pictures ({', '.join(sorted(SUFFIXES))}); fill it, or "
                "delete it from all splits"
            )
        told(f"finding pictures of {split.name}", label + 1, len(classes))
        files += found
        labels += [label] * len(found)
        others += passed
    return Split(split, classes, files, labels, +others)


def divided(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """A training set, and the `share` of each class that is kept to test, one picture at least.

    Pictures are drawn by a hash of seed and name: new ones leave nearly all others where they were. Raises
    `SettingsError` for a share that is not between 0 and 1, and `DataError` for a class with one picture.
    """
    if not 0 < share < 1:
        raise SettingsError(f"split is the share to test on, between 0 and 1, not {share}")
    drawn: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
    for place, (file, label) in enumerate(zip(split.files, split.labels, strict=True)):
        name = f"{seed}/{file.relative_to(split.folder).as_posix()}"
        digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()
        drawn[label].append((digest, place))
    test: set[int] = set()
    for label, order in drawn.items():
        if len(order) < 2:
            raise DataError(
                f"class folder {split.folder / split.classes[label]} has one picture, which cannot be "
                "divided into training and test set: add some, or delete it"
            )
        count = min(max(1, round(share * len(order))), len(order) - 1)
        test |= {place for _, place in sorted(order)[:count]}

    def part(chosen: Sequence[int], others: Counter[str]) -> Split:
        return replace(
            split,
            files=[split.files[place] for place in chosen],
            labels=[split.labels[place] for place in chosen],
            others=others,
        )

    rest = [place for place in range(len(split.files)) if place not in test]
    return part(rest, split.others), part(sorted(test), Counter())


def passed_over(splits: Sequence[Split]) -> str:
    """What a note says of what is no picture: nothing, or "; passed over: 2 .gif"."""
    others = sum((split.others for split in splits), Counter[str]())
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(others.items()))
    return f"; passed over: {kinds}" if kinds else ""
