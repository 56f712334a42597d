"""The files of torchvision's data sets: where they belong, and what is wrong with those on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class VisionFile:
    """A file as torchvision knows it, and what torchvision unpacks from it; paths below the root."""

    url: str
    path: str
    md5: str
    unpacked: tuple[tuple[str, str | None], ...] = ()  # path and MD5; None: an idx file


def vision_files(
    cls: Any,
    splits: tuple[str, ...],  # of SVHN; none for others
) -> list[VisionFile]:
    """The files of a class of torchvision.datasets: of the kind of SVHN, MNIST or CIFAR."""
    if splits:  # read as they are
        return [VisionFile(*cls.split_list[split]) for split in splits]
    if hasattr(cls, "resources"):  # each is unpacked to one idx file
        raw, url = f"{cls.__name__}/raw", cls.mirrors[0]
        return [
            VisionFile(
                url + file, f"{raw}/{file}", md5, ((f"{raw}/{file.removesuffix('.gz')}", None),)
            )
            for file, md5 in cls.resources
        ]
    # one archive, unpacked to several files
    parts = [*cls.train_list, *cls.test_list, (cls.meta["filename"], cls.meta["md5"])]
    unpacked = tuple((f"{cls.base_folder}/{name}", md5) for name, md5 in parts)
    return [VisionFile(cls.url, cls.filename, cls.tgz_md5, unpacked)]


def faults(file: VisionFile, root: Path) -> list[str]:
    """Say what is wrong with a file below `root`; nothing if what is unpacked from it is whole."""
    unpacked = [(root / below, md5) for below, md5 in file.unpacked]
    found = [
        f"{path} is damaged: {damage}"
        for path, md5 in unpacked
        if path.is_file() and (damage := _damage(path, md5))
    ]
    if unpacked and not found and all(path.is_file() for path, _ in unpacked):
        return []
    archive = root / file.path
    if not archive.is_file():
        found.append(f"{archive} is missing: from {file.url}, MD5 {file.md5}")
    elif damage := _damage(archive, file.md5):
        found.append(f"{archive} is damaged: {damage}; from {file.url}")
    elif unpacked and not found:
        found.append(f"{archive} is whole, but not unpacked")
    return found


def _damage(path: Path, md5: str | None) -> str | None:
    if md5 is None:
        return _idx_damage(path)
    from torchvision.datasets.utils import calculate_md5

    found = calculate_md5(path)
    return None if found == md5 else f"its MD5 is {found}, not {md5}"


def _idx_damage(path: Path) -> str | None:
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

    try:
        read_sn3_pascalvincent_tensor(str(path))
    except Exception:  # torchvision asserts, and cut off bytes raise errors of many kinds
        return "it is not an idx file, or is cut off"
    return None
