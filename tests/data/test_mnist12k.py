from __future__ import annotations

import hashlib
import importlib.util
from importlib import resources
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from twostroke.data import Examples, load, mnist12k
from twostroke.errors import DataError

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_mnist12k.py"


def test_embedded_digits_are_balanced_distinct_and_look_like_mnist() -> None:
    data = load("mnist-12k")
    assert isinstance(data.train, Examples)
    assert isinstance(data.test, Examples)
    assert data.train.images.shape == (10_000, 1, 28, 28)
    assert torch.bincount(data.train.labels).tolist() == [1000] * 10
    assert torch.bincount(data.test.labels).tolist() == [200] * 10
    # MNIST's own moments, of its 60,000 training images, are 0.1307 and 0.3081
    assert abs(float(data.train.mean) - 0.1307) < 0.002
    assert abs(float(data.train.std) - 0.3081) < 0.002
    images = torch.cat([data.train.images, data.test.images])
    digests = {hashlib.sha256(image.numpy().tobytes()).digest() for image in images}
    assert len(digests) == 12_000  # so no test image is a training image
    # shuffled: each stretch of 1,000 has every digit about 100 times
    parts = data.train.labels.view(10, 1000)
    assert all(60 < int(n) < 140 for part in parts for n in torch.bincount(part, minlength=10))
    assert "10,000 + 2,000 images of MNIST" in data.note


def test_labels_belong_to_their_images() -> None:
    data = load("mnist-12k")
    x, y = data.train.batch(torch.arange(10_000))
    x_test, y_test = data.test.batch(torch.arange(2_000))
    centres = torch.stack([x[y == digit].mean(0).flatten() for digit in range(10)])
    nearest = torch.cdist(x_test.flatten(1), centres).argmin(1)
    assert float((nearest == y_test).float().mean()) > 0.75  # nearest mean; chance is 0.1


def test_a_damaged_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = resources.files("twostroke.data").joinpath("embedded", mnist12k.FILE)
    packed = bytearray(file.read_bytes())
    assert len(packed) < 3_000_000
    packed[1000] ^= 1
    with pytest.raises(DataError, match=r"mnist-12k.xz is damaged.*reinstall"):
        mnist12k.unpack(bytes(packed))
    monkeypatch.setattr(mnist12k, "FILE", "elsewhere.xz")
    with pytest.raises(DataError, match=r"elsewhere.xz is missing; reinstall"):
        load("mnist-12k")


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_mnist12k", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_script_and_loader_agree(script: ModuleType) -> None:
    assert script.SHA256 == mnist12k.SHA256
    assert script.TARGET.name == mnist12k.FILE
    images = np.arange(40 * 6, dtype=np.uint8).reshape(40, 2, 3)
    labels = np.arange(40, dtype=np.uint8) % 10
    train, test = script.choose(images, labels, 2), script.choose(images, labels, 1)
    packed = script.pack(train, test)
    assert packed == script.pack(train, test)

    data = mnist12k.unpack(packed, sha256=hashlib.sha256(packed).hexdigest())
    assert isinstance(data.train, Examples)
    assert isinstance(data.test, Examples)
    # the first two of each digit are the first 20 examples, and every image has its own label
    assert sorted(data.train.images[:, 0, 0, 0].tolist()) == [6 * i for i in range(20)]
    assert torch.equal(data.train.images[:, 0, 0, 0] // 6 % 10, data.train.labels.byte())
    assert sorted(data.test.labels.tolist()) == list(range(10))
    assert data.train.labels.tolist() != sorted(data.train.labels.tolist())


def test_script_refuses_files_that_are_not_mnist(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x01\0")
    with pytest.raises(SystemExit, match="not MNIST's"):
        script.read_idx(tmp_path / "train-images-idx3-ubyte")
