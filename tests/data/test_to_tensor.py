"""A picture outside of a data set becomes the tensor that it is within one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from twostroke.data import Pictures, PictureToTensor, from_tensors, preprocess
from twostroke.data.to_tensor import read_batches
from twostroke.errors import DataError

DRAW = torch.Generator().manual_seed(0)
Y = torch.arange(12) % 3
BYTES = {
    c: torch.randint(0, 256, (12, c, 6, 8), generator=DRAW, dtype=torch.uint8) for c in (1, 2, 3)
}
KINDS = ["none", "raw", "unit", "gcn", "lcn", "gcn-zca", "gcn-zca:0.5"]


def prepared(channels, kind):
    x = BYTES[channels]
    data = preprocess(from_tensors(x, Y, x.flip(0), Y.flip(0)), kind)
    return data, PictureToTensor.of(data, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_an_image_of_the_test_set_comes_out_as_it_is_tested(channels, kind):
    data, preparation = prepared(channels, kind)
    x, _ = data.test.batch(torch.arange(12))
    images = BYTES[channels].flip(0)
    assert torch.equal(preparation.batch(images), x)
    one = preparation(images[3])
    if kind.startswith("gcn-zca"):  # a product of matrices rounds by its size
        torch.testing.assert_close(one, x[3], rtol=1e-5, atol=1e-5)
    else:
        assert torch.equal(one, x[3])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_path_a_picture_and_an_array_are_the_same(tmp_path, channels):
    data, preparation = prepared(channels, "none")
    pixels = BYTES[channels].flip(0)[0].permute(1, 2, 0).numpy().squeeze()
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "a.png")
    x = data.test.batch(torch.tensor([0]))[0][0]
    for form in (tmp_path / "a.png", str(tmp_path / "a.png"), picture, pixels):
        assert torch.equal(preparation(form), x)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.sampled_from([1.0, 0.875, 0.5])
)
def test_pictures_of_any_size_come_out_as_of_a_data_set(
    tmp_path_factory, width, height, size, crop
):
    draw = np.random.default_rng(width * 41 + height)
    file = tmp_path_factory.getbasetemp() / "one.png"
    Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file)
    source = Pictures([file], torch.tensor([0]), classes=("a", "b"), size=size, crop=crop)
    x, _ = source.batch(torch.tensor([0]))
    how = PictureToTensor(
        (3, size, size), tuple(source.mean.tolist()), tuple(source.std.tolist()), crop=crop
    )
    assert torch.equal(how(file), x[0])


def test_the_largest_middle_of_the_right_shape():
    picture = Image.new("RGB", (8, 2))
    picture.paste((255, 255, 255), (2, 0, 6, 2))
    assert torch.equal(PictureToTensor((3, 2, 4), preprocess="unit")(picture), torch.ones(3, 2, 4))
    tall = picture.rotate(90, expand=True)
    assert torch.equal(PictureToTensor((3, 4, 2), preprocess="unit")(tall), torch.ones(3, 4, 2))


def test_images_in_units_of_their_own():
    x = torch.randn(12, 1, 6, 8, generator=DRAW)
    data = from_tensors(x, Y, x, Y)
    preparation = PictureToTensor.of(data)
    assert torch.equal(preparation(x[1]), data.test.batch(torch.tensor([1]))[0][0])
    assert torch.equal(preparation(x[1].numpy()), preparation(x[1]))
    with pytest.raises(DataError, match=r"numbers in units of their own: give arrays"):
        preparation(Image.new("L", (8, 6)))


@pytest.mark.parametrize(
    "array",
    [torch.zeros(3, 6, 9), np.zeros((6, 8, 2), np.uint8), np.zeros((6, 8, 3), int), torch.zeros(2)],
)
def test_an_array_that_is_no_picture_is_refused(array):
    with pytest.raises(DataError, match="an array is a picture where it is of bytes"):
        prepared(3, "none")[1](array)


def test_files_are_read_in_order_and_bad_ones_are_told(tmp_path):
    files = [tmp_path / f"{k}.png" for k in range(7)]
    for k, file in enumerate(files):
        Image.new("L", (8, 6), 10 * k).save(file)
    files[2].write_bytes(b"nothing")
    files[6].write_bytes(b"")
    found = list(read_batches(PictureToTensor((1, 6, 8)), files, 3))
    assert [len(good) for good, _, _ in found] == [2, 3, 0]
    assert [file for good, _, _ in found for file in good] == files[:2] + files[3:6]
    assert torch.cat([pixels for _, pixels, _ in found])[:, 0, 0, 0].tolist() == [0, 10, 30, 40, 50]
    bad = [str(error) for _, _, errors in found for error in errors]
    assert ["2.png" in bad[0], "6.png" in bad[1]] == [True, True]
