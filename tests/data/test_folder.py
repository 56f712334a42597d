from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from twostroke.data import Examples, load
from twostroke.errors import DataError


def picture(file: Path, value: int, *, mode: str = "RGB", size: tuple[int, int] = (5, 4)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode in ("L", "I;16") else (value, 2 * value, 3 * value, 9)[: len(mode)]
    Image.new(mode, size, colour).save(file)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        picture(tmp_path / split / "cat" / "b.png", 2)
        picture(tmp_path / split / "cat" / "a.PNG", 1)
        picture(tmp_path / split / "dog" / "deep" / "c.png", 3)
        (tmp_path / split / "cat" / "notes.txt").write_text("passed over")
        (tmp_path / split / "cat" / "._a.png").write_text("passed over")
        picture(tmp_path / split / ".thumbnails" / "a.png", 9)
        picture(tmp_path / split / "cat" / ".trash" / "deep" / "a.png", 9)
    return tmp_path


def test_pictures_become_one_tensor_in_the_order_of_their_names(root: Path) -> None:
    data = load(f"folder:{root}")
    assert data.classes == ("cat", "dog")
    assert isinstance(data.train, Examples)
    assert data.train.images.shape == (3, 3, 4, 5)
    assert data.train.images[:, :, 1, 1].tolist() == [[1, 2, 3], [2, 4, 6], [3, 6, 9]]
    assert data.train.labels.tolist() == [0, 0, 1]
    assert data.note == f"3 + 3 images of {root.name} (tested on test); passed over: 2 .txt"


def test_rows_and_columns_are_not_mixed_up(root: Path) -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    Image.fromarray(pixels).save(root / "train" / "dog" / "deep" / "c.png")
    train = load(f"folder:{root}").train
    assert isinstance(train, Examples)
    assert torch.equal(train.images[2], torch.from_numpy(pixels).permute(2, 0, 1))


def test_val_stands_in_for_test(root: Path) -> None:
    (root / "test").rename(root / "val")
    assert "(tested on val)" in load(f"folder:{root}").note


def test_grey_pictures_have_one_channel_and_mixed_ones_three(tmp_path: Path) -> None:
    for split in ("train", "test"):
        picture(tmp_path / split / "cat" / "a.png", 7, mode="L")
        picture(tmp_path / split / "dog" / "a.png", 7, mode="L")
    assert load(f"folder:{tmp_path}").train.shape == (1, 4, 5)
    picture(tmp_path / "train" / "cat" / "b.png", 7, mode="RGBA")
    train = load(f"folder:{tmp_path}").train
    assert isinstance(train, Examples)
    assert train.images[:, :, 0, 0].tolist() == [[7, 7, 7], [7, 14, 21], [7, 7, 7]]


def truncate(file: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:70])


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda root: shutil.rmtree(root / "test"), "no folder test or val"),
        (lambda root: shutil.rmtree(root / "train"), "no folder train"),
        (lambda root: (root / "train" / "dog" / "deep" / "c.png").unlink(), "dog has no pictures"),
        (lambda root: shutil.rmtree(root / "test" / "dog"), "test lacks dog"),
        (lambda root: picture(root / "test" / "eel" / "a.png", 1), "train lacks eel"),
        (
            lambda root: [shutil.rmtree(folder) for folder in (root / "test").iterdir()],
            "test has no class folders",
        ),
        (
            lambda root: picture(root / "test" / "dog" / "d.png", 1, size=(4, 5)),
            r"test/dog/d.png has 4 x 5 pixels, but .*train/cat/a.PNG has 5 x 4; resize",
        ),
        (
            lambda root: (root / "train" / "cat" / "b.png").write_bytes(b"no picture"),
            r"train/cat/b.png is not a picture, or is broken",
        ),
        (lambda root: truncate(root / "test" / "cat" / "b.png"), r"test/cat/b.png is not .*broken"),
        (
            lambda root: picture(root / "train" / "cat" / "b.png", 1, mode="I;16"),
            r"train/cat/b.png has pixels of mode I;16",
        ),
    ],
)
def test_bad_folders_are_named(root: Path, spoil: Callable[[Path], object], text: str) -> None:
    load(f"folder:{root}")
    spoil(root)
    with pytest.raises(DataError, match=text):
        load(f"folder:{root}")


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent: no such folder"):
        load(f"folder:{tmp_path / 'absent'}")


def test_a_note_counts_grey_pictures_among_colour(root: Path) -> None:
    for file in (root / "train").rglob("[ab].*"):
        picture(file, 7, mode="L")
    note = load(f"folder:{root}").note
    assert "; 2 + 0 of them are grey, given three equal channels; passed over" in note


def test_files_that_are_no_pictures_are_counted(root: Path) -> None:
    picture(root / "train" / "cat" / "a.gif", 1)
    picture(root / "test" / "cat" / "a.gif", 1)
    picture(root / "train" / "stray.png", 1)
    (root / "test" / "dog" / "README").touch()
    note = load(f"folder:{root}").note
    assert note.endswith("passed over: 2 .gif, 2 .txt, 1 outside class folders, 1 without a suffix")


def test_a_single_class_is_refused(root: Path) -> None:
    for split in ("train", "test"):
        shutil.rmtree(root / split / "dog")
    with pytest.raises(DataError, match=r"folder:.*: every training example has the label 0"):
        load(f"folder:{root}")
