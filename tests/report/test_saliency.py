import matplotlib.image
import numpy as np
import pytest
import torch

from twostroke.report.saliency import draw_contributions


def coloured(path):
    """Share of reddish and of bluish pixels in the left and right half of the contributions' panel."""
    picture = matplotlib.image.imread(path)[..., :3]
    picture = picture[80:-60, picture.shape[1] // 2 : int(0.88 * picture.shape[1])]
    shares = []
    for half in np.array_split(picture, 2, axis=1):
        red, blue = half[..., 0] - half[..., 2] > 0.2, half[..., 2] - half[..., 0] > 0.2
        shares += [red.mean(), blue.mean()]
    return shares


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_red_adds_and_blue_takes_away(tmp_path, channels):
    parts = torch.zeros(channels, 8, 8)
    parts[0, :, :3] = 2.0
    parts[-1, :, 5:] = -2.0
    draw_contributions(torch.rand(channels, 8, 8), parts, tmp_path / "a.png", title="t", note="n")
    left_red, left_blue, right_red, right_blue = coloured(tmp_path / "a.png")
    assert left_red > 0.4
    assert right_blue > 0.4
    assert left_blue < 0.05
    assert right_red < 0.05


def test_one_large_pixel_does_not_bleach_the_rest(tmp_path):
    parts = torch.ones(1, 40, 40)
    parts[0, 0, 0] = 1000.0
    draw_contributions(torch.zeros(1, 40, 40), parts, tmp_path / "a.png")
    assert coloured(tmp_path / "a.png")[2] > 0.5


def test_a_picture_of_nothing_is_drawn(tmp_path):
    draw_contributions(torch.zeros(1, 4, 9), torch.zeros(1, 4, 9), tmp_path / "a.png")
    assert max(coloured(tmp_path / "a.png")) == 0
