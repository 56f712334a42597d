"""Pictures of nothing."""

import pytest
import torch

from twostroke.data import noise
from twostroke.errors import SettingsError


def test_it_is_smooth_coloured_and_drawn_by_the_seed():
    one, again, other = (noise(20, (3, 16, 12), seed=seed) for seed in (1, 1, 2))
    assert one.shape == (3, 16, 12)
    assert torch.equal(one.images, again.images)
    assert not torch.equal(one.images, other.images)
    pixels = one.images.float()
    steps = pixels.diff(dim=3).abs().mean()
    rough = noise(20, (3, 16, 12), grain=1).images.float()
    assert steps < 0.6 * rough.diff(dim=3).abs().mean()
    assert abs(float(rough.mean()) - 127.5) < 5
    # channels are drawn apart
    assert float(torch.corrcoef(pixels.transpose(0, 1).flatten(1))[0, 1]) < 0.3


def test_it_is_standardised_as_the_teacher_s_pictures_were():
    x, _ = noise(4, (1, 8, 8), mean=[0.5], std=[0.25]).batch(torch.arange(4), view=None)
    assert -2.01 < float(x.min()) < -0.5
    assert 0.5 < float(x.max()) < 2.01


@pytest.mark.parametrize("wrong", [{"count": 0}, {"grain": 0}, {"shape": (3, 0, 4)}])
def test_sizes_below_one(wrong):
    with pytest.raises(SettingsError, match="1 or more"):
        noise(**{"count": 2, "shape": (1, 4, 4)} | wrong)
