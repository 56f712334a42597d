"""Networks with fewer channels, and weights that are drawn again."""

import sys

import pytest
import torch
from torch import nn

from tests.toy import toy_net
from twostroke.errors import SettingsError
from twostroke.guidance.students import narrow
from twostroke.guidance.students.fresh import draw
from twostroke.models import create_model


def channels(model: nn.Module) -> list[tuple[int, int]]:
    """Output channels and groups of all convolutions and linear layers."""
    return [
        (m.out_channels, m.groups) if isinstance(m, nn.Conv2d) else (m.out_features, 1)
        for m in model.modules()
        if isinstance(m, nn.Conv2d | nn.Linear)
    ]


@pytest.mark.parametrize(
    "name",
    [
        "allcnn-mini",
        "nin-cifar10",
        "torchvision/resnet18",
        "torchvision/mobilenet_v2",
        "torchvision/googlenet",
        "timm/resnet10t",
        "timm/regnetx_002",
    ],
)
def test_hidden_layers_have_half_the_channels_and_outputs_stay(name):
    model, x = create_model(name, classes=7), torch.randn(2, 3, 32, 32)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    student = narrow(model, 0.5, x)
    wide, thin = channels(model), channels(student)
    assert [n for n, _ in thin] == [n // 2 for n, _ in wide[:-1]] + [7]
    for (n, groups), (m, fewer) in zip(wide, thin, strict=True):
        assert fewer == (m if n == groups else groups)  # depthwise stays depthwise
    assert student(x).shape == (2, 7)
    assert type(student) is type(model)
    assert student.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def vgg() -> nn.Module:
    """The form of torchvision's VGG, with its flattening, without its 128 million weights."""
    from torchvision.models.vgg import VGG, make_layers

    model = VGG(make_layers([8, "M", 16, "M"], batch_norm=True), num_classes=5, init_weights=False)
    model.avgpool = nn.AdaptiveAvgPool2d(2)
    model.classifier = nn.Sequential(nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 5))
    return model


def test_a_flattened_picture_loses_all_places_of_a_channel():
    student = narrow(vgg(), 0.25, torch.randn(1, 3, 16, 16))
    assert channels(student) == [(2, 1), (4, 1), (5, 1), (5, 1)]
    assert student.classifier[0].in_features == 4 * 4


def test_the_strongest_channels_are_copied():
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -9.0, 2.0, 8.0]).view(4, 1, 1, 1))
        model[3].weight.fill_(1)
    student = narrow(model, 0.5, torch.randn(1, 1, 1, 1))
    assert student[0].weight.flatten().tolist() == [-9.0, 8.0]
    assert torch.equal(student[0].bias, model[0].bias[[1, 3]])
    assert torch.equal(student[3].weight, model[3].weight[:, [1, 3]])


def test_full_width_with_copy_is_the_teacher():
    model, x = toy_net(norm=True).eval(), torch.randn(3, 1, 6, 6)
    assert torch.equal(narrow(model, 1, x)(x), model(x))


@pytest.mark.parametrize("width", [0.3, 0.6, 0.7, 0.9])
def test_products_that_are_whole_are_not_rounded_down(width):
    model = nn.Sequential(nn.Conv2d(1, 10, 1), nn.ReLU(), nn.Flatten(), nn.Linear(10, 2))
    assert narrow(model, width, torch.randn(1, 1, 1, 1))[0].out_channels == round(10 * width)


def test_fresh_weights_are_of_the_seed_and_nothing_else():
    x = torch.randn(2, 3, 32, 32)
    model, other = create_model("allcnn-mini"), create_model("allcnn-mini")
    state = torch.get_rng_state()
    first, second = (
        narrow(model, 0.5, x, fresh=True, seed=3),
        narrow(other, 0.5, x, fresh=True, seed=3),
    )
    assert torch.equal(torch.get_rng_state(), state)
    for one, two in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    third = narrow(model, 0.5, x, fresh=True, seed=4)
    assert not torch.equal(first.classifier.weight, third.classifier.weight)
    weight = first.features[6].weight.detach()
    assert weight.std() == pytest.approx((2 / (weight.shape[1] * 9)) ** 0.5, rel=0.1)


def test_shapes_do_not_depend_on_weights():
    x = torch.randn(2, 3, 32, 32)
    model = create_model("allcnn-mini")
    some = [p.shape for p in narrow(model, 0.3, x).parameters()]
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1)  # all channels alike
    assert [p.shape for p in narrow(model, 0.3, x).parameters()] == some


@pytest.mark.parametrize("width", [0, -0.5, 1.5, float("nan"), "half", True])
def test_width_out_of_range(width):
    with pytest.raises(SettingsError, match="above 0 and at most 1"):
        narrow(toy_net(), width, torch.randn(1, 1, 6, 6))


def test_a_layer_that_would_have_no_channels():
    with pytest.raises(SettingsError, match=r"0 keeps its 6 channels.*larger width"):
        narrow(toy_net(), 0.1, torch.randn(1, 1, 6, 6))


def test_a_model_without_layers():
    with pytest.raises(SettingsError, match="no convolution"):
        narrow(nn.ReLU(), 0.5, torch.randn(1, 1, 6, 6))


def test_a_graph_that_is_not_followed():
    model, x = create_model("torchvision/shufflenet_v2_x0_5"), torch.randn(1, 3, 32, 32)
    with pytest.raises(SettingsError, match="ShuffleNetV2 cannot be narrowed"):
        narrow(model, 0.5, x)


def test_outputs_that_do_not_come_from_the_last_layer():
    class Back(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(8, 4), nn.Linear(6, 8)

        def forward(self, x):
            return self.last(torch.relu(self.first(x)))

    with pytest.raises(SettingsError, match="do not come from first"):
        narrow(Back(), 0.5, torch.randn(1, 6))


def test_torch_pruning_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(SettingsError, match=r"pip install 'twostroke\[shrink\]'"):
        narrow(toy_net(), 0.5, torch.randn(1, 1, 6, 6))


def test_parameters_that_cannot_be_drawn_again():
    class Scaled(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(2, 2))
            self.gain = nn.Parameter(torch.ones(2))

    with pytest.raises(SettingsError, match=r"Scaled has parameters of its own.*fresh=True"):
        draw(Scaled(), 0)
