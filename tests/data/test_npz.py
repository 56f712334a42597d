from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from twostroke.data import Examples, load
from twostroke.errors import DataError


def arrays(shape: tuple[int, ...] = (6, 5, 7)) -> dict[str, Any]:
    x = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    y = np.arange(len(x)) % 2
    return {"x_train": x, "y_train": y, "x_test": x[:2], "y_test": y[:2].astype(np.uint8)}


def save(folder: Path, **changed: Any) -> str:
    kept = {key: value for key, value in {**arrays(), **changed}.items() if value is not None}
    np.savez_compressed(folder / "digits.npz", **kept)
    return f"npz:{folder / 'digits.npz'}"


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((6, 5, 7), None),
        ((6, 5, 7, 3), (0, 3, 1, 2)),
        ((6, 3, 5, 7), (0, 1, 2, 3)),
        ((6, 5, 7, 1), (0, 3, 1, 2)),
        ((6, 2, 5, 4), (0, 1, 2, 3)),  # both would do: channels come first
    ],
)
def test_layouts(tmp_path: Path, shape: tuple[int, ...], axes: tuple[int, ...] | None) -> None:
    data = load(save(tmp_path, **arrays(shape)))
    x = arrays(shape)["x_train"]
    expected = x[:, None] if axes is None else x.transpose(axes)
    assert isinstance(data.train, Examples)
    assert torch.equal(data.train.images, torch.from_numpy(expected.copy()))
    assert data.train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert len(data.test) == 2
    told = "; channels were moved from the end to the front" if axes == (0, 3, 1, 2) else ""
    assert data.note == "6 + 2 images of digits.npz" + told


def test_classes(tmp_path: Path) -> None:
    assert load(save(tmp_path, classes=np.array(["cat", "dog"]))).classes == ("cat", "dog")
    assert load(save(tmp_path)).classes == ("0", "1")
    named = save(tmp_path, y_test=np.array([0, 2]), classes=np.array(["cat", "dog", "eel"]))
    assert len(load(named).classes) == 3  # one of which has no training example


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"y_test": None}, "no array y_test; it holds x_train, y_train, x_test"),
        ({"x_train": arrays()["x_train"].astype(int)}, "training set: images must be uint8 or"),
        ({"x_test": arrays()["x_test"][0]}, r"test set: images must be \(count.* \(5, 7\)"),
        ({"x_test": np.zeros((2, 5, 5, 7), np.uint8)}, r"test images \(5, 5, 7\)"),
        ({"y_train": np.zeros((6, 2), int)}, r"training set: labels .* \(6, 2\), and row 0 is not"),
        ({"y_train": np.arange(6) / 2}, "training set: example 1 has label 0.5"),
        ({"y_train": np.array([0, 1, None, 0, 1, 0])}, "y_train cannot be read: .*pickle"),
        ({"y_train": np.zeros(5, int)}, "training set: 6 images, but 5 labels"),
        ({"x_train": arrays()["x_train"][:0]}, "training set: no examples"),
        ({"x_test": arrays()["x_test"][:, 1:]}, "test images"),
        ({"x_test": np.zeros((2, 3, 5, 7), np.uint8)}, r"\(1, 5, 7\), test images \(3, 5, 7\)"),
        ({"y_test": np.array([0, 8])}, "training labels are 0..1, but test labels 0..8; .*names"),
        ({"y_train": np.ones(6, int)}, "every training example has the label 1"),
        ({"classes": np.array(["cat"])}, "training set: example 1 has label 1"),
        ({"classes": np.array([1, 2])}, "classes must be a row of strings"),
    ],
)
def test_bad_arrays_are_named(tmp_path: Path, changed: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=rf"digits.npz.*{text}") as caught:
        load(save(tmp_path, **changed))
    assert str(caught.value).count("digits.npz") == 1


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent.npz: no such file"):
        load(f"npz:{tmp_path / 'absent.npz'}")
    for content in (b"", b"no archive at all", b"PK\x03\x04 but no more"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"bad.npz is not an .npz file"):
            load(f"npz:{tmp_path / 'bad.npz'}")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"one.npy holds a single array"):
        load(f"npz:{tmp_path / 'one.npy'}")


def test_truncated_and_altered_files_are_named(tmp_path: Path) -> None:
    name = save(tmp_path)
    file = tmp_path / "digits.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"digits.npz is not an .npz file, or is truncated"):
        load(name)
    start = whole.index(b"x_train.npy") + 60  # inside the first array's compressed bytes
    file.write_bytes(whole[:start] + bytes(20) + whole[start + 20 :])
    with pytest.raises(DataError, match=r"digits.npz: x_train cannot be read"):
        load(name)


def test_a_damaged_header_of_an_array_is_named(tmp_path: Path) -> None:
    x, y = np.zeros((20, 1, 6, 6), np.uint8), np.arange(20)
    file = tmp_path / "a.npz"
    np.savez(file, x_train=x, y_train=y, x_test=x, y_test=y)  # not compressed
    whole = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    header = content["x_train.npy"].index(b"{")
    for position in range(6, header + 60):
        for byte in b"\x00(":
            broken = bytearray(content["x_train.npy"])
            broken[position] = byte
            with zipfile.ZipFile(file, "w") as archive:  # with a checksum that is right
                for name, data in content.items():
                    archive.writestr(name, bytes(broken) if name == "x_train.npy" else data)
            with suppress(DataError):
                load(f"npz:{file}")
    file.write_bytes(whole)
    load(f"npz:{file}")


def test_a_wild_label_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    x, y = np.zeros((20, 1, 6, 6), np.uint8), np.arange(20)
    wild = np.where(y == 7, 10**9, y)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=wild, x_test=x, y_test=y)
    with pytest.raises(DataError, match="the highest label is 1,000,000,000"):
        load(f"npz:{tmp_path / 'a.npz'}")
