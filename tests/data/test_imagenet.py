"""ImageNet's layout, on a handful of tiny pictures."""

from __future__ import annotations

from pathlib import Path
from threading import get_ident

import numpy as np
import pytest
import torch
from PIL import Image

from twostroke.data import Pictures, announce, check_replayable, draw_integers, load
from twostroke.data.augmentation import ResizedCrop, middle
from twostroke.data.decoding import check_pictures
from twostroke.data.pictures import MEAN, STD
from twostroke.errors import DataError, SettingsError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for split in ("train", "val"):
        for k, wnid in enumerate(("n01440764", "n01443537")):
            folder = tmp_path / split / wnid
            folder.mkdir(parents=True)
            for i in range(2 + k):
                size = (40 + 7 * i, 30 + k, 3)
                Image.fromarray(draw.integers(0, 256, size).astype(np.uint8)).save(
                    folder / f"{i}.JPEG"
                )
    grey = Image.fromarray(draw.integers(0, 256, (33, 44)).astype(np.uint8))
    grey.save(tmp_path / "train" / "n01440764" / "1.JPEG")  # ImageNet has grey ones too
    return tmp_path


def test_layout_classes_and_labels(root: Path) -> None:
    data = load("imagenet", root=root)
    assert data.classes == ("n01440764", "n01443537")
    assert (len(data.train), len(data.test)) == (5, 5)
    assert data.train.shape == (3, 224, 224)
    assert "2 ImageNet classes" in data.note
    x, y = data.train.batch(torch.arange(5))
    assert x.shape == (5, 3, 224, 224)
    assert y.tolist() == [0, 0, 1, 1, 1]
    assert torch.equal(x, data.train.batch(torch.arange(5), view=3)[0])  # nothing is drawn
    below = root / "other"
    below.mkdir()
    (below / "imagenet").symlink_to(root)
    assert len(load("imagenet", root=below).train) == 5


def test_an_example_is_the_middle_of_its_picture(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[4:12, 12:20] = 255  # half of the shorter side, in the middle
    file = tmp_path / "a.png"
    Image.fromarray(pixels).save(file)
    source = Pictures([file], torch.zeros(1, dtype=torch.int64), classes=["a"], size=8, crop=0.5)
    x, _ = source.batch(torch.arange(1))
    white = (torch.ones(3) - torch.tensor(MEAN[3])) / torch.tensor(STD[3])
    torch.testing.assert_close(x[0], white[:, None, None].expand(3, 8, 8))
    assert middle(32, 16, 8, 8) == (12, 4, 20, 12)


def test_crops_can_be_replayed_and_differ(root: Path) -> None:
    data = load("imagenet", root=root, augmentation="resized-crop")
    check_replayable(data.train)
    one, two = (data.train.batch(torch.arange(5), view=v, seed=1)[0] for v in (0, 1))
    assert (one != two).flatten(1).any(1).all()
    alone = data.train.batch(torch.tensor([3]), view=1, seed=1)[0]
    assert torch.equal(alone[0], two[3])
    plain = data.test.batch(torch.arange(5))[0]
    assert torch.equal(plain, data.test.batch(torch.arange(5), view=1)[0])


def test_announced_pictures_are_decoded_ahead_and_are_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = load("imagenet", root=root, augmentation="resized-crop").train
    order = torch.randperm(5).split(2)
    expected = [source.batch(part, view=2, seed=1)[0] for part in order]
    other = source.batch(order[0], view=3, seed=1)[0]
    announce(source, order, view=2, seed=1)
    assert torch.equal(source.batch(order[0], view=3, seed=1)[0], other)  # of another view
    for part, x in zip(order, expected, strict=True):
        assert torch.equal(source.batch(part, view=2, seed=1)[0], x)
    decode, calls = source._decode, []
    monkeypatch.setattr(source, "_decode", lambda *a: calls.append(get_ident()) or decode(*a))
    announce(source, order, view=2, seed=1)
    for part in order:
        source.batch(part, view=2, seed=1)
    assert len(calls) == len(order)
    assert get_ident() not in calls
    part = source.subset(torch.arange(3))  # of which nothing is announced
    assert torch.equal(
        part.batch(torch.arange(3), view=2, seed=1)[0],
        source.batch(torch.arange(3), view=2, seed=1)[0],
    )


def test_random_crops_have_the_published_shapes() -> None:
    draw = np.random.default_rng(0)
    shares, ratios = [], []
    for _ in range(2000):
        numbers = draw.random(41).tolist()
        (left, upper, right, lower), mirror = ResizedCrop().crop(200, 150, numbers)
        assert mirror == (numbers[0] < 0.5)
        assert 0 <= left < right <= 200
        assert 0 <= upper < lower <= 150
        shares.append((right - left) * (lower - upper) / 30000)
        ratios.append((right - left) / (lower - upper))
    assert min(shares) > 0.07
    assert max(shares) <= 1
    assert min(ratios) > 0.74
    assert max(ratios) < 1.35
    # a picture that no attempt fits gives the largest middle of a good shape
    box, mirror = ResizedCrop().crop(100, 10, [0.7, 0.99, 0.5, 0.5, 0.5])
    assert box == pytest.approx((43.33, 0, 56.67, 10), abs=0.01)
    assert not mirror


def test_draws_of_crops_stay_as_they_are() -> None:
    """A stored mask belongs to its crop: other draws would make it one of another picture."""
    draws = ResizedCrop().draw(torch.tensor([3, 7]), view=2, seed=5)
    alone = ResizedCrop().draw(torch.tensor([7]), view=2, seed=5)
    assert torch.equal(draws[1:], alone)
    assert draws.shape == (2, 41)
    for stream in (0, 1, 40):
        whole = draw_integers(torch.tensor([3, 7]), 1 << 30, seed=5, view=2, stream=stream)
        assert torch.equal(draws[:, stream], whole.double() / (1 << 30))


def test_subsets_and_devices(root: Path) -> None:
    data = load("imagenet", root=root)
    part = data.train.subset(torch.tensor([4, 0]))  # type: ignore[attr-defined]
    x, y = part.to("cpu").batch(torch.arange(2))
    assert y.tolist() == [1, 0]
    assert torch.equal(x, data.train.batch(torch.tensor([4, 0]))[0])
    assert data.split_validation(count=2).train.shape == data.train.shape


def test_what_is_missing_or_broken_is_named(root: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(
        DataError, match=r"(?s)empty/train/WNID.*import ImageNet; .*empty', split.*data-root"
    ):
        load("imagenet", root=empty)
    for split in ("train", "val"):
        (empty / split / "n01440764").mkdir(parents=True)
    with pytest.raises(DataError, match="n01440764 has no pictures"):
        load("imagenet", root=empty)
    data = load("imagenet", root=root)
    (root / "train" / "n01443537" / "0.JPEG").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"n01443537/0.JPEG is not a picture"):
        data.train.batch(torch.arange(5))
    (root / "val" / "n01443537").rename(root / "val" / "n09999999")
    with pytest.raises(DataError, match=r"train lacks n09999999; .*val lacks n01443537"):
        load("imagenet", root=root)
    with pytest.raises(DataError, match=r"absent: no such folder. ImageNet cannot be downloaded"):
        load("imagenet", root=tmp_path / "absent")
    (root / "val").rename(root / "valid")
    with pytest.raises(DataError, match="no folder val"):
        load("imagenet", root=root)


def test_bad_requests(root: Path) -> None:
    with pytest.raises(SettingsError, match="size that crops are resized to"):
        Pictures(
            [root / "a.png"],
            torch.zeros(1, dtype=torch.int64),
            classes=["a"],
            size=(8, 9),
            augmentation=ResizedCrop(),
        )
    with pytest.raises(SettingsError, match="channel by channel"):
        load("imagenet", root=root, preprocess="gcn")
    with pytest.raises(DataError, match="no picture files"):
        Pictures([], torch.zeros(0, dtype=torch.int64), classes=["a"])


def test_bad_files_are_counted_and_named_before_training(root: Path) -> None:
    for i in range(6):
        (root / "val" / "n01440764" / f"empty{i}.JPEG").touch()
    (root / "train" / "n01443537" / "0.JPEG").write_bytes(b"not a picture")
    (root / "train" / "n01443537" / "gone.JPEG").symlink_to(root / "nowhere")
    floats = np.full((20, 20), 0.5, np.float32)
    Image.fromarray(floats).save(root / "train" / "n01443537" / "x.tif")
    with pytest.raises(DataError) as caught:
        load("imagenet", root=root)
    text = str(caught.value)
    assert text.startswith("9 of 18 picture files cannot be used:")
    for part in (
        "n01443537/0.JPEG is not a picture",
        "gone.JPEG cannot be read: No such file",
        "x.tif has pixels of mode F; convert it to 8 bits",
        "n01440764/empty0.JPEG is empty",
        "and 4 more",
    ):
        assert part in text


@pytest.mark.parametrize("suffix", ["JPEG", "png", "bmp", "webp"])
def test_pictures_that_are_cut_off_show_before_training(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    files = [tmp_path / f"{name}.{suffix}" for name in ("whole", "padded", "cut")]
    for file in files:
        Image.fromarray(pixels).save(file)
    with files[1].open("ab") as file:
        file.write(bytes(300))  # as some cameras do
    files[2].write_bytes(files[0].read_bytes()[:-100])
    check_pictures(files[:2])
    with pytest.raises(
        DataError, match=rf"^1 of 3 picture files .*\n.*cut.{suffix} is not .*broken"
    ):
        check_pictures(files)


@pytest.mark.parametrize("left", ["train/n02.tar", "val/ILSVRC2012_val_00000002.JPEG"])
def test_a_split_that_is_half_unpacked_is_refused(root: Path, left: str) -> None:
    (root / left).touch()
    with pytest.raises(DataError, match=rf"{left} is not in its class.*remove .*{left[:3]}"):
        load("imagenet", root=root)


def test_what_is_passed_over_is_counted(root: Path) -> None:
    (root / "val" / "n01440764" / "moving.gif").touch()
    (root / "val" / ".DS_Store").touch()
    assert load("imagenet", root=root).note.endswith("classes; passed over: 1 .gif")
