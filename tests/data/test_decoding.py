"""Pictures as people have them: every mode, lying on their side, of 16 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twostroke.data.decoding import decoded, header, opened
from twostroke.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def read(file: Path, channels: int = 3) -> np.ndarray:
    with opened(file) as image:
        return np.asarray(decoded(image, channels))


@pytest.mark.parametrize(
    ("mode", "suffix", "change"),
    [
        ("RGB", "png", None),
        ("RGBA", "png", "with transparency, which is dropped"),
        ("CMYK", "tif", "CMYK"),
        ("YCbCr", "jpg", None),
    ],
)
def test_colour_in_every_mode_becomes_red_green_and_blue(
    tmp_path: Path, mode: str, suffix: str, change: str | None
) -> None:
    file = tmp_path / f"a.{suffix}"
    given = Image.fromarray(PIXELS).convert(mode)
    if mode == "RGBA":
        given.putalpha(7)
    given.save(file)
    assert header(file).changes == (() if change is None else (change,))
    assert not header(file).grey
    if suffix != "jpg":
        assert np.array_equal(read(file), PIXELS)
    assert np.array_equal(read(file, 1), np.asarray(Image.fromarray(read(file)).convert("L")))


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_in_every_mode_is_grey(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "a.png"
    given = Image.fromarray(PIXELS).convert("L").convert(mode)
    given.save(file)
    assert header(file).grey
    assert np.array_equal(read(file, 1), np.asarray(given.convert("L")))
    assert np.array_equal(read(file)[:, :, 2], read(file, 1))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette_is_looked_up(tmp_path: Path, transparent: bool) -> None:
    given = Image.fromarray(PIXELS).quantize(16)
    file = tmp_path / "a.png"
    given.save(file, **({"transparency": bytes(16)} if transparent else {}))
    changes = header(file).changes
    assert changes[0] == "with a palette"
    assert len(changes) == 1 + transparent
    assert np.array_equal(read(file), np.asarray(given.convert("RGB")))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_of_16_bits_the_upper_8_stay(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 255, 256, 40_000, 65_535]], dtype=np.uint16)
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(deep).save(file)
    assert header(file).changes == ("of 16 bits, cut to 8",)
    assert header(file).grey
    assert read(file, 1).tolist() == [[0, 0, 1, 156, 255]]


@pytest.mark.parametrize(("value", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "compressed.tif"])
def test_a_picture_that_lies_on_its_side_is_turned(
    tmp_path: Path, suffix: str, value: int, turns: int
) -> None:
    file = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = value
    options = {"webp": {"lossless": True}, "compressed.tif": {"compression": "tiff_lzw"}}
    Image.fromarray(PIXELS).save(file, exif=exif, **options.get(suffix, {}))
    wanted = np.rot90(PIXELS, turns)
    assert header(file).size == wanted.shape[1::-1]
    assert header(file).changes == (("turned as their EXIF says",) if value > 1 else ())
    assert np.array_equal(read(file), wanted)


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_pixels_that_are_no_light_are_refused(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "a.tif"
    Image.new(mode, (4, 4)).save(file)
    with pytest.raises(DataError, match=rf"a.tif has pixels of mode {mode}; convert it to 8 bits"):
        header(file)
