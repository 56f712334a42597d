from pathlib import Path

import pytest
import torch
from PIL import Image

from twostroke.data import photos
from twostroke.errors import DataError, SettingsError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, size, colour in (
        ("a.png", (8, 4), (10, 20, 30)),
        ("deep/er/b.jpg", (6, 6), (40, 50, 60)),
        ("deep/c.png", (3, 9), (70, 80, 90)),
        (".trash/d.png", (5, 5), (0, 0, 0)),
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(file)
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def test_pictures_of_any_size_and_depth_come_as_one_size(folder: Path) -> None:
    source = photos(folder, size=4, mean=[0.0] * 3, std=[1.0] * 3)
    assert len(source) == 3
    assert source.shape == (3, 4, 4)
    x, y = source.batch(torch.arange(3))
    assert (255 * x[0, :, 1, 1]).round().tolist() == [10, 20, 30]
    assert (255 * x[1, :, 1, 1]).round().tolist() == [70, 80, 90]  # in the order of paths
    assert y.tolist() == [0, 0, 0]


def test_the_middle_of_a_picture_is_taken(tmp_path: Path) -> None:
    picture = Image.new("RGB", (12, 4), (0, 0, 0))
    picture.paste((255, 255, 255), (4, 0, 8, 4))
    picture.save(tmp_path / "wide.png")
    x, _ = photos(tmp_path, size=4, mean=[0.0] * 3, std=[1.0] * 3).batch(torch.arange(1))
    assert torch.equal(x, torch.ones(1, 3, 4, 4))


def test_grey_and_a_draw(folder: Path) -> None:
    grey = photos(folder, size=2, channels=1)
    assert grey.shape == (1, 2, 2)
    assert grey.images[0, 0, 0, 0] == 18  # the luminance of 10, 20, 30, as torchvision's Grayscale
    assert len(photos(folder, size=2, count=2)) == 2
    same = [photos(folder, size=2, count=2, seed=3).images for _ in range(2)]
    assert torch.equal(*same)


def test_bad_folders_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        photos(tmp_path / "nowhere", size=4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no pictures"):
        photos(tmp_path / "empty", size=4)
    with pytest.raises(SettingsError, match="3 channels, or 1"):
        photos(folder, size=4, channels=2)
    with pytest.raises(SettingsError, match="1 or more, not 0"):
        photos(folder, size=4, count=0)
    (folder / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.png"):
        photos(folder, size=4)
