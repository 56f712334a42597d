import pytest
import torch
import torch.nn.functional as F
from torch import nn

from twostroke.errors import SettingsError
from twostroke.models.mini import PLAN, SMALLEST, Mini


def kinds(model):
    return {type(m) for m in model.modules() if not list(m.children())}


def test_made_of_convolutions_batch_norm_and_relu_only():
    assert kinds(Mini()) == {nn.Conv2d, nn.BatchNorm2d, nn.ReLU}
    assert kinds(Mini(batch_norm=False)) == {nn.Conv2d, nn.ReLU}


def test_a_convolution_before_batch_norm_has_no_bias():
    def biased(model):
        return [m.bias is not None for m in model.modules() if isinstance(m, nn.Conv2d)]

    assert biased(Mini()) == [False] * len(PLAN) + [True]
    assert biased(Mini(batch_norm=False)) == [True] * (len(PLAN) + 1)


@pytest.mark.parametrize(("side", "left"), [(28, 3), (32, 4), (SMALLEST, 1)])
def test_sides(side, left):
    with torch.device("meta"):
        model = Mini(in_channels=2, classes=7)
        x = torch.zeros(3, 2, side, side)
        assert model.features(x).shape == (3, 64, left, left)
        assert model(x).shape == (3, 7)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 40), (30, 1)])
def test_small_images_are_framed_with_zeros(height, width):
    torch.manual_seed(0)
    model = Mini(width=0.25).eval()
    x = torch.randn(2, 3, height, width)
    canvas = torch.zeros(2, 3, max(height, SMALLEST), max(width, SMALLEST))
    top, left = (canvas.shape[2] - height) // 2, (canvas.shape[3] - width) // 2
    canvas[:, :, top : top + height, left : left + width] = x
    torch.testing.assert_close(model(x), model(canvas), rtol=0, atol=0)


def test_width_multiplies_the_hidden_channels():
    def channels(width):
        with torch.device("meta"):
            model = Mini(in_channels=1, classes=3, width=width)
        return [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]

    assert channels(1.0) == [c for c, _, _ in PLAN] + [3]
    assert channels(0.5) == [c // 2 for c, _, _ in PLAN] + [3]
    assert channels(2) == [c * 2 for c, _, _ in PLAN] + [3]


def test_he_initialisation():
    torch.manual_seed(0)
    for layer in Mini(width=2).features:
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)


def test_learns_which_corner_is_bright():
    torch.manual_seed(0)
    y = torch.arange(64) % 4
    x = 0.5 * torch.randn(64, 1, 17, 17)
    for i, corner in enumerate(y.tolist()):
        x[i, 0, 9 * (corner // 2) :, :][:8, 9 * (corner % 2) :][:, :8] += 1
    model = Mini(in_channels=1, classes=4, width=0.25)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    assert (model.eval()(x).argmax(1) == y).float().mean() > 0.9


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"classes": 0}, "classes must be"),
        ({"in_channels": 0}, "in_channels must be"),
        ({"width": 0.01}, "width 0.01 leaves a layer of 24 without channels"),
        ({"width": -1}, "width -1 leaves"),
    ],
)
def test_refused(options, text):
    with pytest.raises(SettingsError, match=text):
        Mini(**options)
