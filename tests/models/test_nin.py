import pytest
import torch
from torch import nn

from twostroke.errors import SettingsError
from twostroke.models.nin import NIN


def of_convs(*layers):
    """Parameters of convolutions given as (kernel, in, out), biases included."""
    return sum(k * k * i * o + o for k, i, o in layers)


def convs(model):
    return [m for m in model.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize(
    ("variant", "in_channels", "classes", "count"),
    [
        ("mnist", 1, 10, 349_674),
        ("svhn", 3, 10, 1_986_026),
        ("cifar10", 3, 10, 966_986),
        ("cifar100", 3, 100, 984_356),
    ],
)
def test_parameter_counts(variant, in_channels, classes, count):
    with torch.device("meta"):
        model = NIN(variant, in_channels=in_channels, classes=classes)
    assert sum(p.numel() for p in model.parameters()) == count


def test_parameter_count_of_cifar100_by_hand():
    first = of_convs((5, 3, 192), (1, 192, 160), (1, 160, 96))
    second = of_convs((5, 96, 192), (1, 192, 192), (1, 192, 192))
    third = of_convs((3, 192, 192), (1, 192, 192), (1, 192, 100))
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in part.parameters())
            for part in NIN("cifar100", classes=100).children()
        ]
    assert counts == [first, 0, second, 0, third]


@pytest.mark.parametrize(
    ("variant", "sides"),
    [("mnist", (28, 14, 7)), ("svhn", (32, 16, 8)), ("cifar10", (32, 16, 8))],
)
def test_sides_of_the_stages(variant, sides):
    with torch.device("meta"):
        model = NIN(variant, classes=5)
        x = torch.zeros(2, 3, sides[0], sides[0])
        first = model.reduce1(model.mlpconv1(x))
        second = model.reduce2(model.mlpconv2(first))
        assert (first.shape[-1], second.shape[-1]) == sides[1:]
        assert model.mlpconv3(second).shape == (2, 5, sides[2], sides[2])
        assert model(x).shape == (2, 5)


def test_every_convolution_has_a_relu_the_last_if_wanted():
    def relus(**options):
        with torch.device("meta"):
            return sum(isinstance(m, nn.ReLU) for m in NIN("mnist", **options).modules())

    assert relus() == 9
    assert relus(final_relu=False) == 8


def test_final_relu_keeps_logits_from_being_negative():
    torch.manual_seed(0)
    x = torch.randn(4, 3, 4, 4)
    original = NIN("mnist").eval()
    plain = NIN("mnist", final_relu=False).eval()
    plain.load_state_dict(original.state_dict())
    assert plain(x).min() < 0
    torch.testing.assert_close(original(x), plain(x).relu())  # one place only: 4 → 2 → 1


@pytest.mark.parametrize(
    ("variant", "stds"),
    [("mnist", [0.05] * 9), ("cifar100", [0.001, 0.01, 0.01] + [0.05] * 6)],
)
def test_initialisation(variant, stds):
    torch.manual_seed(0)
    layers = convs(NIN(variant))
    assert [c.weight.std().item() for c in layers] == pytest.approx(stds, rel=0.1)
    assert not any(c.bias.any() for c in layers)


def test_dropout_as_published_and_as_asked():
    with torch.device("meta"):
        models = [NIN("mnist"), NIN("mnist", dropout=0.0)]
    rates = [[m.p for m in model.modules() if isinstance(m, nn.Dropout)] for model in models]
    assert rates == [[0.5, 0.5], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"variant": "imagenet"}, "variant must be one of mnist, .*, not 'imagenet'"),
        ({"classes": 0}, "classes must be"),
        ({"in_channels": 0}, "in_channels must be"),
        ({"dropout": 1.5}, "dropout must be"),
    ],
)
def test_refused(options, text):
    with pytest.raises(SettingsError, match=text):
        NIN(**options)
