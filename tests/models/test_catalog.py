import sys
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from twostroke.errors import SettingsError, UnknownNameError, WeightsError
from twostroke.models import MODELS, NIN, AllCNN, Mini, create_model, list_models
from twostroke.models.catalog import origin


def built(name, **options):
    with torch.device("meta"):
        return create_model(name, **options)


def convs(model):
    return [m for m in model.modules() if isinstance(m, nn.Conv2d)]


@pytest.fixture
def without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)


@pytest.fixture
def published(monkeypatch):
    """Stand in for a download: what torchvision would load as published weights."""
    given = {}
    monkeypatch.setattr(
        torchvision.models.WeightsEnum, "get_state_dict", lambda self, **_: given["state"]
    )
    return given


def test_our_names():
    families = ("allcnn", "base", "strided", "convpool")
    assert set(MODELS) == {
        "allcnn-mini",
        *(f"{family}-{size}" for family in families for size in "abc"),
        *(f"nin-{data}" for data in ("mnist", "svhn", "cifar10", "cifar100")),
    }
    descriptions = [entry.description for entry in MODELS.values()]
    assert len(set(descriptions)) == len(MODELS)
    assert not any("\n" in text or not text for text in descriptions)


@pytest.mark.parametrize("name", MODELS)
def test_ours_by_name(name):
    model = built(name, classes=7, in_channels=2)
    with torch.device("meta"):
        assert model(torch.zeros(2, 2, 32, 32)).shape == (2, 7)


def test_names_lead_to_their_models():
    kinds = {"allcnn-a": AllCNN, "nin-svhn": NIN, "allcnn-mini": Mini}
    assert all(type(built(name)) is kind for name, kind in kinds.items())
    counts = {
        "allcnn-a": 1_254_250,
        "base-b": 885_610,
        "strided-c": 954_730,
        "convpool-c": 1_369_738,
        "nin-mnist": 349_674,
        "nin-cifar100": 984_356,
    }
    for name, count in counts.items():  # classes and channels left out: as published
        assert sum(p.numel() for p in built(name).parameters()) == count


def test_options_reach_our_builders():
    assert built("allcnn-a", dropout=0.3).block1[-1].p == 0.3
    assert built("allcnn-mini", width=2.0).classifier.in_channels == 128


def test_an_option_that_ours_does_not_have():
    with pytest.raises(
        SettingsError, match=r"allcnn-mini has no option depth; .*batch_norm, width"
    ):
        create_model("allcnn-mini", depth=3)
    with pytest.raises(SettingsError, match="allcnn-c has no option size"):
        create_model("allcnn-c", size="a")


@pytest.mark.parametrize("name", ["allcnn-mini", "resnet18", "timm/resnet18"])
def test_names_that_other_packages_give_to_sizes_are_told_ours(name):
    with pytest.raises(SettingsError, match="num_classes has the name classes here: classes=7"):
        create_model(name, num_classes=7)
    with pytest.raises(SettingsError, match="in_channels=1"):
        create_model(name, in_chans=1)


def test_ours_have_no_weights():
    with pytest.raises(SettingsError, match="no published weights"):
        create_model("allcnn-a", weights="DEFAULT")


@pytest.mark.parametrize("name", ["allcnn-a", "resnet18", "timm/resnet18", "no-such-model"])
@pytest.mark.parametrize("size", ["classes", "in_channels"])
def test_sizes_below_one_are_refused_before_anything_is_built(name, size):
    with pytest.raises(SettingsError, match=f"{size} must be 1 or more, not 0"):
        create_model(name, **{size: 0})


def test_short_and_full_names_of_torchvision():
    short, full = built("resnet18", classes=7), built("torchvision/resnet18")
    assert type(short) is type(full) is torchvision.models.ResNet
    assert (short.fc.out_features, full.fc.out_features) == (7, 10)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
@pytest.mark.filterwarnings("error")
def test_one_tensor_from_nets_with_auxiliary_outputs(name):
    model = built(name, classes=7, in_channels=1)
    with torch.device("meta"):
        assert model.train()(torch.zeros(2, 1, 96, 96)).shape == (2, 7)
    assert built(name, aux_logits=True).aux_logits


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v3_small"])
@pytest.mark.parametrize("in_channels", [1, 5])
def test_other_channels_in_torchvision(name, in_channels):
    plain = convs(create_model(name))[0]
    torch.manual_seed(0)
    model = create_model(name, in_channels=in_channels).eval()
    first = convs(model)[0]
    assert first.in_channels == in_channels
    for setting in ("out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        assert getattr(first, setting) == getattr(plain, setting)
    assert (first.bias is None) == (plain.bias is None)
    # the output keeps its variance: that of a weight goes down as their number goes up
    expected = (plain.weight.std() * (3 / in_channels) ** 0.5).item()
    assert first.weight.std().item() == pytest.approx(expected, rel=0.25)
    assert model(torch.zeros(2, in_channels, 64, 64)).shape == (2, 10)


def test_three_channels_leave_torchvision_as_it_is():
    torch.manual_seed(0)
    expected = torchvision.models.squeezenet1_1(num_classes=10).state_dict()
    torch.manual_seed(0)
    state = create_model("squeezenet1_1", in_channels=3).state_dict()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5"])
def test_published_weights_with_another_head(name, published):
    torch.manual_seed(0)
    source = torchvision.models.get_model(name)
    published["state"] = source.state_dict()
    whole = create_model(name, weights="DEFAULT").eval()
    headed = create_model(name, weights="IMAGENET1K_V1", classes=7).eval()
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(whole(x), source.eval()(x))
    assert headed(x).shape == (2, 7)
    state = headed.state_dict()
    changed = [
        key for key in published["state"] if state[key].shape != published["state"][key].shape
    ]
    same = [key for key in state if key not in changed]
    assert len(changed) == 2  # weight and bias of the head
    assert all(torch.equal(state[key], published["state"][key]) for key in same)


def test_options_that_do_not_fit_the_weights_are_named(published):
    published["state"] = torchvision.models.mobilenet_v2().state_dict()
    with pytest.raises(SettingsError, match=r"width_mult=0.5 does not fit its weights"):
        create_model("torchvision/mobilenet_v2", weights="DEFAULT", width_mult=0.5)


def test_published_weights_of_googlenet_give_one_tensor(published):
    source = torchvision.models.googlenet(init_weights=False, aux_logits=True)
    published["state"] = source.state_dict()
    model = create_model("googlenet", weights="DEFAULT", classes=4, in_channels=1)
    assert model(torch.zeros(2, 1, 64, 64)).shape == (2, 4)
    whole = create_model("googlenet", weights="DEFAULT")
    assert whole.transform_input  # as its weights were trained
    assert whole(torch.zeros(2, 3, 64, 64)).shape == (2, 1000)


def test_weights_that_do_not_exist():
    with pytest.raises(SettingsError, match="resnet18 has no weights 'BEST', only IMAGENET1K_V1"):
        create_model("resnet18", weights="BEST")


def test_weights_that_cannot_be_had_name_address_file_and_fix(monkeypatch, tmp_path):
    def no_network(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(WeightsError, match=r"no route to host.*fetch https://\S+ .*put it at") as e:
        create_model("resnet18", weights="IMAGENET1K_V1", classes=4)
    file = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    assert str(file) in str(e.value)
    file.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(WeightsError, match=r"resnet18-f37072fd.pth does not hold .* remove it"):
        create_model("resnet18", weights="IMAGENET1K_V1", classes=4)


def test_origins():
    assert origin("allcnn-mini") == ("twostroke", "allcnn-mini")
    assert origin("torchvision/vgg16") == origin("vgg16") == ("torchvision", "vgg16")


def test_timm_by_full_and_by_short_name():
    pytest.importorskip("timm")
    model = built("timm/resnet18", classes=7, in_channels=1)
    assert type(model).__module__.startswith("timm.")
    assert (model.conv1.in_channels, model.fc.out_features) == (1, 7)
    assert type(built("resnet10t")).__module__.startswith("timm.")  # torchvision has none
    assert built("timm/resnet10t.c3_in1k").fc.out_features == 10  # with a tag
    assert built("timm/resnet18", drop_rate=0.25).drop_rate == 0.25


def test_timm_takes_no_weights_by_name():
    pytest.importorskip("timm")
    with pytest.raises(SettingsError, match="pretrained=True"):
        create_model("timm/resnet18", weights="DEFAULT")


def test_without_timm(without_timm):
    with pytest.raises(UnknownNameError, match=r"timm/resnet18.*pip install 'twostroke\[timm\]'"):
        create_model("timm/resnet18")
    with pytest.raises(UnknownNameError, match=r"no model 'resnet10t'.*'twostroke\[timm\]'"):
        create_model("resnet10t")
    assert list_models("timm/*") == []
    assert "torchvision/resnet18" in list_models()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("alcnn-c", "allcnn-c"),
        ("ResNet18", "resnet18"),
        ("torchvision/resnet19", "torchvision/resnet18"),
        ("nin_mnist", "nin-mnist"),
    ],
)
def test_unknown_names_get_near_ones(name, near, without_timm):
    with pytest.raises(UnknownNameError) as caught:
        create_model(name)
    text = str(caught.value)
    assert f"no model {name!r}; did you mean" in text
    assert near in text.partition("did you mean")[2]
    assert "`twostroke models`" in text


@pytest.mark.parametrize("name", ["", "/", "torchvision/", "zzzzzz", "elsewhere/resnet18"])
def test_unknown_names_without_near_ones(name, without_timm):
    with pytest.raises(UnknownNameError, match="`twostroke models`"):
        create_model(name)


def test_names_of_detection_models_are_not_listed():
    names = list_models("torchvision/*")
    assert {"torchvision/resnet18", "torchvision/googlenet", "torchvision/vgg16"} <= set(names)
    assert not [name for name in names if "rcnn" in name or "deeplab" in name]


def test_patterns(without_timm):
    assert list_models("allcnn-?") == ["allcnn-a", "allcnn-b", "allcnn-c"]
    assert list_models("vgg1?") == [f"torchvision/vgg{n}" for n in (11, 13, 16, 19)]
    assert list_models("torchvision/vgg1?") == list_models("vgg1?")
    assert list_models("no-such-*") == []
    assert list_models()[: len(MODELS)] == list(MODELS)


def test_a_pattern_with_another_source_does_not_import_timm(monkeypatch):
    for module in [m for m in sys.modules if m.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, module)
    assert list_models("torchvision/res*")
    create_model("allcnn-mini")
    built("resnet18")
    assert "timm" not in sys.modules


def test_whatever_is_listed_can_be_built(without_timm):
    for name in list_models("*squeezenet*") + list_models("*shufflenet*"):
        assert isinstance(built(name), nn.Module)
