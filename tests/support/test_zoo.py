"""Whole models of torchvision and timm, with random weights and small inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

import twostroke as ts
from twostroke.errors import UnholdableError
from twostroke.support import BatchEnergy, PositiveThreshold

from .helpers import assert_equal_runs, assert_held_as_live, normal, run


def vision(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=4, **options)


def vgg11() -> nn.Module:
    """VGG-11 without its hundred million weights at the end."""
    layers = make_layers(cfgs["A"], batch_norm=False)
    return nn.Sequential(layers, nn.Flatten(), nn.Linear(512, 4))


def pytorch_image_model(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        timm = pytest.importorskip("timm")
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=4)
        return model

    return make


MODELS: dict[str, tuple[Callable[[], nn.Module], int, dict[str, int]]] = {
    "resnet18": (vision("resnet18"), 32, {"relu": 17, "max_pool": 1}),
    "vgg11": (vgg11, 32, {"relu": 8, "max_pool": 5}),
    "googlenet": (
        vision("googlenet", aux_logits=False, init_weights=False),
        32,
        {"relu": 57, "max_pool": 13},
    ),
    "densenet121": (vision("densenet121"), 32, {"relu": 121, "max_pool": 1}),
    "squeezenet1_1": (vision("squeezenet1_1"), 40, {"relu": 26, "max_pool": 3}),
    "mobilenet_v2": (vision("mobilenet_v2"), 32, {"clamp": 35}),
    "shufflenet": (vision("shufflenet_v2_x0_5"), 32, {"relu": 37, "max_pool": 1}),
    "timm test_resnet": (pytorch_image_model("test_resnet"), 32, {"relu": 12, "max_pool": 1}),
    "timm resnetv2_18": (pytorch_image_model("resnetv2_18"), 32, {"relu": 17, "max_pool": 1}),
    "timm repvgg_a0": (pytorch_image_model("repvgg_a0"), 32, {"relu": 22}),
    "timm regnetx_002": (pytorch_image_model("regnetx_002"), 32, {"relu": 40}),
    "timm dla46x_c": (pytorch_image_model("dla46x_c"), 64, {"relu": 45, "max_pool": 6}),
}


@pytest.mark.parametrize("name", MODELS)
def test_held_right_after_recording(name: str) -> None:
    make, side, kinds = MODELS[name]
    torch.manual_seed(0)
    model, x = make().double().eval(), normal(2, 3, side, side)
    support = assert_held_as_live(model, x, pooling=True)
    assert Counter(s.kind for s in support.sites) == kinds
    assert len({s.key for s in support.sites}) == len(support.sites)
    assert 0.05 < support.density() < 0.95
    # the held network is affine: of three points on a line the middle one is in the middle
    y = normal(2, 3, side, side, seed=1)
    with ts.hold(model, support), torch.no_grad():
        a, b, middle = model(x), model(y), model(0.5 * (x + y))
    torch.testing.assert_close(middle, 0.5 * (a + b), rtol=1e-8, atol=1e-8)


def test_held_in_training_mode() -> None:
    torch.manual_seed(0)
    model, x = torchvision.models.resnet18(num_classes=4).double().train(), normal(4, 3, 32, 32)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    support = ts.record(model, x)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    live = run(model, x)
    model.load_state_dict(before)
    with ts.hold(model, support):
        assert_equal_runs(live, run(model, x))


def test_rules_on_a_whole_model() -> None:
    torch.manual_seed(0)
    model, x = torchvision.models.resnet18(num_classes=4).double().eval(), normal(2, 3, 32, 32)
    live = run(model, x)
    with ts.hold(model, PositiveThreshold(0.0)):
        assert_equal_runs(live, run(model, x))
    rule = BatchEnergy(density=0.5)
    support = ts.record(model, x, rule=rule, gated=True)
    assert float(support.density()) == pytest.approx(0.5, abs=1e-3)
    with ts.hold(model, support, gated=True):
        held = run(model, x)
    with ts.hold(model, rule, gated=True):
        assert_equal_runs(held, run(model, x))
    assert not torch.equal(held[0], live[0])


@pytest.mark.parametrize(
    ("make", "side", "words"),
    [
        (
            vision("mobilenet_v3_small"),
            32,
            ["hardswish in features.0.2", "hardsigmoid in features.1.block.1.scale_activation"],
        ),
        (vision("efficientnet_b0"), 32, ["silu in features.0.2", "sigmoid in"]),
        (pytorch_image_model("test_vit"), 160, ["gelu in blocks.0.mlp.act", "blocks.0.attn"]),
        (pytorch_image_model("legacy_seresnet18"), 32, ["sigmoid in layer1.0.se_module.sigmoid"]),
    ],
)
def test_refused_by_name(make: Callable[[], nn.Module], side: int, words: list[str]) -> None:
    model = make().eval()
    with pytest.raises(UnholdableError) as caught:
        ts.sites(model, torch.randn(1, 3, side, side))
    for word in words:
        assert word in str(caught.value)
