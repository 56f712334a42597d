from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets as sets

from twostroke.data import Examples, load, vision
from twostroke.errors import DataError


@pytest.fixture(autouse=True)
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No test reaches the network; what would have been fetched is listed."""
    tried: list[str] = []

    def offline(url: str, *_args: Any, **_kwargs: Any) -> None:
        tried.append(url)
        raise URLError("offline")

    for module in (sets.mnist, sets.cifar):
        monkeypatch.setattr(module, "download_and_extract_archive", offline)
    monkeypatch.setattr(sets.svhn, "download_url", offline)
    return tried


def write_idx(root: Path) -> np.ndarray:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.arange(3 * 28 * 28).astype(np.uint8).reshape(3, 28, 28)
    for part, count in (("train", 3), ("t10k", 2)):
        head = bytes([0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28])
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + images[:count].tobytes())
        labels = bytes([7, 0, 9][:count])
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            bytes([0, 0, 8, 1, 0, 0, 0, count]) + labels
        )
    return images


def test_what_is_on_disk_is_read_without_a_download(tmp_path: Path, attempts: list[str]) -> None:
    images = write_idx(tmp_path)
    data = load("mnist", root=tmp_path)
    assert attempts == []
    assert isinstance(data.train, Examples)
    assert torch.equal(data.train.images[:, 0], torch.from_numpy(images))
    assert data.train.labels.tolist() == [7, 0, 9]
    assert len(data.test) == 2
    assert data.classes == tuple("0123456789")
    assert data.note == "3 + 2 images of MNIST"


def test_the_root_can_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(tmp_path)
    monkeypatch.setenv("TWOSTROKE_DATA", str(tmp_path))
    assert len(load("mnist", download=False).train) == 3


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    write_idx(tmp_path)
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte is damaged: it is not an idx file, or is cut off"
    ):
        load("mnist", root=tmp_path)
    file.write_bytes(b"garbage, no idx file")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is damaged: it is not an idx"):
        load("mnist", root=tmp_path)


def test_only_the_file_that_is_missing_is_listed(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError) as caught:
        load("mnist", root=tmp_path)
    text = str(caught.value).partition("\nAn attempt")[0]
    assert "t10k-labels-idx1-ubyte.gz is missing: from http" in text
    assert text.count("ubyte.gz is") == 1


def test_an_archive_that_is_damaged_is_named_with_its_checksums(
    tmp_path: Path, attempts: list[str]
) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"damaged")
    found = "46cc0df55d22d6eb6c37cabbc09f5193"
    wanted = rf"{archive} is damaged: its MD5 is {found}, not {sets.CIFAR10.tgz_md5}; from https"
    with pytest.raises(DataError, match=wanted):
        load("cifar10", root=tmp_path)
    assert len(attempts) == 1


def test_what_was_unpacked_damaged_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"damaged")
    monkeypatch.setattr(sets.CIFAR10, "tgz_md5", "46cc0df55d22d6eb6c37cabbc09f5193")
    with pytest.raises(DataError, match=rf"{archive} is whole, but not unpacked") as caught:
        load("cifar10", root=tmp_path, download=False)
    assert "load it again with download=True" in str(caught.value)
    folder = tmp_path / sets.CIFAR10.base_folder
    folder.mkdir()
    (folder / "data_batch_3").write_bytes(b"")
    with pytest.raises(DataError, match=r"data_batch_3 is damaged: its MD5 is d41d8") as caught:
        load("cifar10", root=tmp_path)
    assert "gz is" not in str(caught.value)
    assert "download=True" not in str(caught.value)


def test_a_label_that_has_no_class_is_said_to_be_of_the_data_set(tmp_path: Path) -> None:
    write_idx(tmp_path)
    file = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:-1] + bytes([77]))
    with pytest.raises(DataError, match=r"mnist: test set: example 1 has label 77"):
        load("mnist", root=tmp_path)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mnist", ["MNIST/raw/t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"]),
        ("fashion-mnist", ["FashionMNIST/raw/train-images-idx3-ubyte.gz", "s3-website"]),
        ("cifar10", ["cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"]),
        ("cifar100", ["cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"]),
        ("svhn", ["train_32x32.mat", "test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"]),
    ],
)
def test_a_failed_download_says_how_to_fetch_by_hand(
    name: str,
    wanted: list[str],
    tmp_path: Path,
    attempts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vision, "find_spec", lambda name: object())
    with pytest.raises(DataError) as caught:
        load(name, root=tmp_path)
    assert attempts
    assert "offline" in str(caught.value)
    for part in (str(tmp_path), *wanted):
        assert part in str(caught.value)
    attempts.clear()
    with pytest.raises(DataError, match="by hand"):
        load(name, root=tmp_path, download=False)
    assert attempts == []


def test_cifar_is_read_with_channels_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072)).astype(np.uint8)
    folder = tmp_path / sets.CIFAR10.base_folder
    folder.mkdir()
    for file in ("batch", "test"):
        (folder / file).write_bytes(pickle.dumps({"data": pixels, "labels": [0, 1, 1, 0]}))
    (folder / "meta").write_bytes(pickle.dumps({"names": ["plane", "car"]}))
    monkeypatch.setattr(sets.CIFAR10, "train_list", [["batch", None]])
    monkeypatch.setattr(sets.CIFAR10, "test_list", [["test", None]])
    monkeypatch.setattr(sets.CIFAR10, "meta", {"filename": "meta", "key": "names", "md5": None})
    data = load("cifar10", root=tmp_path)
    assert isinstance(data.train, Examples)
    assert torch.equal(data.train.images, torch.from_numpy(pixels).view(4, 3, 32, 32))
    assert data.train.images.is_contiguous()
    assert data.train.labels.tolist() == [0, 1, 1, 0]
    assert data.classes == ("plane", "car")


def test_svhn_says_that_it_needs_scipy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"svhn needs the package scipy, .*twostroke\[svhn\]"):
        load("svhn", root=tmp_path)


def test_svhn_is_read_by_its_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        split_list = sets.SVHN.split_list

        def __init__(self, root: Path, *, split: str, download: bool) -> None:
            count = {"train": 3, "extra": 4, "test": 2}[split]
            self.data = np.zeros((count, 3, 32, 32), np.uint8)
            self.labels = np.arange(count)

    monkeypatch.setattr(vision, "find_spec", lambda name: object())
    monkeypatch.setattr(sets, "SVHN", Fake)
    data = load("svhn", root=tmp_path)
    assert (len(data.train), len(data.test)) == (3, 2)
    assert data.train.shape == (3, 32, 32)
    assert data.train.batch(torch.arange(3))[1].tolist() == [0, 1, 2]
    data = load("svhn-extra", root=tmp_path)
    assert (len(data.train), len(data.test)) == (7, 2)
    assert data.train.batch(torch.arange(7))[1].tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert "extra" in data.note


def test_labels_that_disagree_with_their_images_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path)
    file = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    file.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 7]))
    with pytest.raises(
        DataError,
        match=rf"test set: 2 images, but 1 labels: the files of mnist in {tmp_path} .*delete",
    ):
        load("mnist", root=tmp_path)
