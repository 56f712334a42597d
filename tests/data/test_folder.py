from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from twostroke.data import Examples, Pictures, Preparation, check_replayable, load
from twostroke.data.picture_files import divided, find_splits
from twostroke.data.pictures import CROP, MEAN, STD
from twostroke.errors import DataError, SettingsError


def picture(file: Path, value: int, *, mode: str = "RGB", size: tuple[int, int] = (5, 4)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode in ("L", "F") else (value, 2 * value, 3 * value, 9)[: len(mode)]
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
            r"test/dog/d.png has 4 x 5 pixels, but .*train/cat/a.PNG has 5 x 4: .*--image-size 224",
        ),
        (
            lambda root: (root / "train" / "cat" / "b.png").write_bytes(b"no picture"),
            r"train/cat/b.png is not a picture, or is broken",
        ),
        (lambda root: truncate(root / "test" / "cat" / "b.png"), r"test/cat/b.png is not .*broken"),
        (
            lambda root: picture(root / "train" / "cat" / "b.tif", 1, mode="F"),
            r"train/cat/b.tif has pixels of mode F",
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


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two classes of pictures of all sizes in PATH/CLASS, as people have them."""
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k in range(10):
            pixels = draw.integers(0, 256, (30 + 5 * k, 70 - 4 * k, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{k}.png")
    return tmp_path


def test_pictures_of_any_size_are_cut_as_torchvision_cuts_them(mixed: Path) -> None:
    data = load(f"folder:{mixed}", image_size=32, split=0.2)
    assert f"16 + 4 images of {mixed.name}, brought to 32 x 32 (tested on 20 % of each" in data.note
    assert isinstance(data.test, Examples)
    files = divided(find_splits(mixed)[0], 0.2, 0)[1].files
    usual = transforms.Compose(
        [
            transforms.Resize(round(32 / CROP)),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize(MEAN[3], STD[3]),
        ]
    )
    for x, file in zip(data.test.batch(torch.arange(4))[0], files, strict=True):
        torch.testing.assert_close(x, usual(Image.open(file)), rtol=0, atol=1e-5)


def test_what_is_read_from_disk_is_what_would_be_held(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"image_size": 16, "split": 0.2, "augmentation": "flip-shift"}
    held = load(f"folder:{mixed}", **options)
    monkeypatch.setattr("twostroke.data.folder._HELD", 0)
    read = load(f"folder:{mixed}", **options)
    assert isinstance(held.train, Examples)
    assert isinstance(read.train, Pictures)
    everything = torch.arange(len(held.train))
    for view in (None, 0, 3):
        ours, theirs = (d.train.batch(everything, view=view, seed=1) for d in (held, read))
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
    assert read.note == held.note


def test_random_crops_of_any_folder_can_be_replayed(mixed: Path) -> None:
    told: list[tuple[str, int, int]] = []
    data = load(
        f"folder:{mixed}",
        image_size=16,
        split=0.3,
        augmentation="resized-crop",
        told=lambda *args: told.append(args),
    )
    check_replayable(data.train)
    one, two = (data.train.batch(torch.arange(14), view=v)[0] for v in (0, 1))
    assert (one != two).flatten(1).any(1).all()
    assert told[-1] == ("checking pictures", 20, 20)
    with pytest.raises(SettingsError, match="--image-size"):
        load(f"folder:{mixed}", split=0.3, augmentation="resized-crop")


def test_a_folder_is_prepared_as_weights_want_it(mixed: Path) -> None:
    wanted = Preparation((1, 12, 12), (0.5,), (0.25,), crop=0.5)
    data = load(f"folder:{mixed}", split=0.2, prepared=wanted)
    assert data.train.shape == (1, 12, 12)
    assert isinstance(data.train, Examples)
    assert (data.train.mean.item(), data.train.std.item()) == (0.5, 0.25)
    assert "among them 20 of colour, made grey" in data.note
    digits = load("mnist-12k", prepared=wanted)
    assert digits.train.mean.item() == digits.test.mean.item() == 0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "has no folder train: .*--split 0.2"),
        ({"split": 1.5}, "split is the share to test on, between 0 and 1, not 1.5"),
        ({"split": 0.2}, "pixels, but .*--image-size 224"),
        ({"split": 0.2, "image_size": 0}, "image_size is a number of pixels"),
    ],
)
def test_a_folder_without_a_test_set_says_what_it_needs(
    mixed: Path, options: dict[str, Any], text: str
) -> None:
    with pytest.raises((DataError, SettingsError), match=text):
        load(f"folder:{mixed}", **options)


def test_options_of_folders_are_refused_elsewhere(root: Path) -> None:
    with pytest.raises(SettingsError, match="a folder test to test on: leave split out"):
        load(f"folder:{root}", split=0.2)
    with pytest.raises(SettingsError, match="mnist-12k is divided"):
        load("mnist-12k", split=0.2)
    with pytest.raises(SettingsError, match="mnist-12k have their size"):
        load("mnist-12k", image_size=20)


def test_damaged_pictures_are_all_counted_and_the_first_named(mixed: Path) -> None:
    for name in ("cat/1.png", "cat/7.png", "dog/0.png"):
        file = mixed / name
        file.write_bytes(file.read_bytes()[:600])  # the header stays
    with pytest.raises(
        DataError, match=r"(?s)^[123] of \d+ picture files cannot .*/cat/1.png is .*broken"
    ):
        load(f"folder:{mixed}", split=0.2, image_size=16)


def test_a_note_counts_grey_pictures_among_colour(root: Path) -> None:
    for file in (root / "train").rglob("[ab].*"):
        picture(file, 7, mode="L")
    note = load(f"folder:{root}").note
    assert "; among them 2 grey, given three equal channels; passed over" in note


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
    with pytest.raises(DataError, match=r"train has one class folder, cat: training needs two"):
        load(f"folder:{root}")
