"""What is known of published weights, and models that begin with them; nothing is downloaded."""

from __future__ import annotations

import pytest
import torch
import torchvision

from twostroke.errors import SettingsError, UnknownNameError, WeightsError
from twostroke.models.outside import ends
from twostroke.models.published import published


def test_torchvision_says_how_images_are_prepared() -> None:
    known = published("resnet50")
    assert (known.model, known.tag) == ("torchvision/resnet50", "IMAGENET1K_V2")
    assert known.shape == (3, 224, 224)
    assert known.mean == (0.485, 0.456, 0.406)
    assert known.crop == 224 / 232  # other than that of IMAGENET1K_V1
    assert (len(known.classes), known.classes[0]) == (1000, "tench")


def test_layers_that_do_not_fit_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torchvision.models.shufflenet_v2_x0_5().state_dict()
    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", lambda self, **_: state)
    known = published("shufflenet_v2_x0_5")
    whole, fresh = known.build(classes=1000, in_channels=3)
    assert fresh == []
    net, fresh = known.build(classes=4, in_channels=1)
    assert fresh == [
        "the first layer (for 1 channels, not 3)",
        "the last layer (for 4 classes, not 1000)",
    ]
    drawn = {name for name in net.state_dict() if net.state_dict()[name].shape != state[name].shape}
    assert drawn == {"conv1.0.weight", "fc.weight", "fc.bias"}
    for name, value in whole.state_dict().items():
        assert torch.equal(value, state[name])
        assert name in drawn or torch.equal(net.state_dict()[name], value)


def test_timm_says_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    known = published("timm/resnet18")
    assert (known.tag, known.shape, known.crop) == ("a1_in1k", (3, 224, 224), 0.95)
    given = timm.create_model("resnet18")
    monkeypatch.setattr(
        timm.models._builder,
        "load_pretrained",
        lambda model, **_: model.load_state_dict(given.state_dict(), strict=False),
    )
    net, fresh = known.build(classes=1000, in_channels=3)
    assert fresh == []
    assert torch.equal(net.conv1.weight, given.conv1.weight)  # type: ignore[union-attr, arg-type]
    assert ends(net) == ("conv1", "fc")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(timm.models._builder, "load_pretrained", fail)
    with pytest.raises(WeightsError, match="resnet18 could not be fetched from timm \\(no network"):
        known.build(classes=3)


def test_models_without_published_weights() -> None:
    with pytest.raises(SettingsError, match="allcnn-c has no published weights"):
        published("allcnn-c")
    with pytest.raises(UnknownNameError, match="resnet18"):
        published("resnt18")
