"""Unpacking ImageNet, on archives of a few bytes."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.datasets import imagenet

from twostroke.data import imagenet_archives, load
from twostroke.errors import DataError

DEVKIT, TRAIN, VAL = imagenet_archives.ARCHIVES
WNIDS = ("n01", "n02")


def jpeg(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(file, "JPEG")
    return file.getvalue()


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of three and two training pictures, four validation pictures."""
    train = {
        f"{wnid}.tar": tar({f"{wnid}_{i}.JPEG": jpeg(i) for i in range(3 - k)})
        for k, wnid in enumerate(WNIDS)
    }
    val = {f"ILSVRC2012_val_{i:08}.JPEG": jpeg(9 * i) for i in range(1, 5)}
    for name, content in ((DEVKIT, b"devkit"), (TRAIN, tar(train)), (VAL, tar(val))):
        (tmp_path / name).write_bytes(content)
    for part, name in (("devkit", DEVKIT), ("train", TRAIN), ("val", VAL)):
        monkeypatch.setitem(imagenet.ARCHIVE_META, part, (name, md5(tmp_path / name)))
    meta = ({}, ["n02", "n01", "n01", "n02"])
    monkeypatch.setattr(
        imagenet, "parse_devkit_archive", lambda place: torch.save(meta, place / "meta.bin")
    )
    return tmp_path


def check(root: Path) -> None:
    data = load("imagenet", root=root)
    assert data.classes == WNIDS
    assert data.train.batch(torch.arange(5))[1].tolist() == [0, 0, 0, 1, 1]
    assert [file.name[-6:-5] for file in data.test.files] == ["2", "3", "1", "4"]  # type: ignore[attr-defined]
    left = {entry.name for entry in root.iterdir() if entry.is_dir()}
    assert left == {"train", "val"}
    assert sorted(entry.name for entry in (root / "train").iterdir()) == list(WNIDS)
    assert sorted(entry.name for entry in (root / "val").iterdir()) == list(WNIDS)


def test_archives_are_unpacked(root: Path) -> None:
    check(root)


def test_a_split_that_is_missing_is_unpacked(root: Path) -> None:
    check(root)
    shutil.rmtree(root / "train")
    check(root)
    shutil.rmtree(root / "val")
    (root / "val").mkdir()
    check(root)


def test_what_was_interrupted_is_begun_anew(root: Path) -> None:
    check(root)
    (root / "train" / "n02" / "n02_1.JPEG").write_bytes(jpeg(1)[:9])
    (root / "train").rename(root / "train.unpacking")
    (root / "val" / "n02" / "ILSVRC2012_val_00000004.JPEG").unlink()
    (root / "val").rename(root / "val.unpacking")
    check(root)
    assert (root / "train" / "n02" / "n02_1.JPEG").read_bytes() == jpeg(1)


def test_archives_beside_unpacked_classes_are_passed_over(root: Path) -> None:
    check(root)
    for archive in ("n01.tar", "n02/labels.tar"):
        (root / "train" / archive).write_bytes(b"mine")
    for name in (TRAIN, VAL):
        (root / name).unlink()
    assert "passed over: 1 .tar, 1 outside class folders" in load("imagenet", root=root).note


def test_folders_of_others_are_not_touched(root: Path) -> None:
    check(root)
    shutil.rmtree(root / "train" / "n02")
    (root / "train" / "n02.tar").write_bytes(b"of another program")
    (root / "train" / "n01" / "n01_0.JPEG").write_bytes(b"resized")
    with pytest.raises(DataError, match=r"n02.tar is not in its class: move .*train away"):
        load("imagenet", root=root)
    assert (root / "train" / "n02.tar").read_bytes() == b"of another program"
    assert (root / "train" / "n01" / "n01_0.JPEG").read_bytes() == b"resized"
    shutil.rmtree(root / "train")
    (root / "val" / "n01" / "ILSVRC2012_val_00000002.JPEG").rename(
        root / "val" / "ILSVRC2012_val_00000002.JPEG"
    )
    with pytest.raises(DataError, match=r"ILSVRC2012_val_00000002.JPEG is not in its class: move"):
        load("imagenet", root=root)


def test_archives_that_are_damaged_or_missing_are_named(root: Path) -> None:
    check(root)
    shutil.rmtree(root / "train")
    (root / TRAIN).write_bytes(b"damaged")
    with pytest.raises(DataError, match=rf"could not be unpacked .*{TRAIN}.*corrupted"):
        load("imagenet", root=root)
    (root / TRAIN).unlink()
    with pytest.raises(DataError, match=rf"no folder train, and to .* lacks {TRAIN}"):
        load("imagenet", root=root)
    (root / "train" / "n01").mkdir(parents=True)
    shutil.rmtree(root / "val")
    (root / VAL).write_bytes(b"no archive")
    imagenet.ARCHIVE_META["val"] = (VAL, md5(root / VAL))
    with pytest.raises(DataError, match=r"val of ImageNet could not be unpacked .*ReadError"):
        load("imagenet", root=root)
