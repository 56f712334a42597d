"""Masks of weights: which, how many, and what refuses."""

import pytest
import torch
from torch import nn

from tests.toy import toy_data, toy_net
from twostroke.errors import SettingsError
from twostroke.models import create_model
from twostroke.sparsity import (
    Connections,
    Magnitude,
    NoMask,
    Units,
    apply_masks,
    sparsity,
    weighted_layers,
)
from twostroke.sparsity.carried import calls_of
from twostroke.sparsity.layers import prunable, unknown_weights
from twostroke.support import record


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.75])
def test_magnitude_prunes_the_smallest_of_each_layer_but_the_first(ratio):
    model = toy_net()
    masks = Magnitude(ratio=ratio).find(model, toy_data().train, seed=0)
    assert list(masks) == ["4", "7"]
    for path, keep in masks.items():
        weight = model.get_submodule(path).weight.abs()
        assert int((~keep).sum()) == round(ratio * keep.numel())
        if ratio:
            assert weight[~keep].max() <= weight[keep].min()
    everywhere = Magnitude(ratio=ratio, spare_first=False).find(model, toy_data().train, seed=0)
    assert list(everywhere) == ["0", "4", "7"]


def test_magnitude_of_equal_weights_prunes_as_many_as_it_says():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(10, 10))
    nn.init.constant_(model[2].weight, 0.1)
    keep = Magnitude(ratio=0.3).find(model, toy_data().train, seed=0)["2"]
    assert int((~keep).sum()) == 30


@pytest.mark.parametrize("per", ["batch", "instance"])
def test_connections_against_the_definition(per):
    model, source = toy_net(), toy_data().train
    kind = Connections(per=per, price=0.4, examples=len(source), batch_size=50)
    masks = kind.find(model, source, seed=0)
    # layer "4" stands in front of the second ReLU: its carried energy from unfolded inputs
    x, _ = source.batch(torch.arange(len(source)))
    z = model[2](model[0](x)).detach()
    on = record(model.eval(), x)["5#0"].flatten(2).float()
    places = nn.functional.unfold(z, 3, padding=1, stride=2).square()  # (n, in·k·k, places)
    each = torch.einsum("nop,nip->noi", on, places).view(-1, *model[4].weight.shape)
    each = each * model[4].weight.detach().square()
    energy = each.mean(0) if per == "batch" else each.amax(0)
    assert torch.equal(masks["4"], energy > 0.4 * energy.mean())
    assert 0 < int(masks["4"].sum()) < masks["4"].numel()


def test_weights_that_carry_nothing_go_at_price_zero():
    model = toy_net()
    with torch.no_grad():
        model[4].weight[2] = 0
        model[0].bias[3] = -100  # its unit is never on
    masks = Connections(price=0, examples=64).find(model, toy_data().train, seed=0)
    assert not masks["4"][2].any()
    assert not masks["4"][:, 3].any()
    assert masks["7"].any()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121", "googlenet"])
def test_any_network_has_masks(name):
    torch.manual_seed(0)
    model = create_model(name, classes=4).eval()
    x = torch.randn(2, 3, 32, 32)
    calls = calls_of(model, x)
    layers = weighted_layers(model)
    assert set(calls) == set(layers)
    masked = [path for path, some in calls.items() if not bool((some[0].mask == 1).all())]
    assert len(masked) > len(layers) / 2  # most layers stand in front of a ReLU
    apply_masks(model, Magnitude(ratio=0.5).find(model, toy_data().train, seed=0))
    share = sparsity(model)
    assert 0.4 < share <= 0.5
    assert next(iter(share.by_layer.values())) == 0


def test_shared_weights_are_one_layer_and_computed_ones_refuse():
    a = nn.Linear(3, 3)
    assert list(weighted_layers(nn.Sequential(a, nn.ReLU(), a))) == ["0"]
    tied = nn.Linear(3, 3)
    tied.weight = a.weight
    assert list(weighted_layers(nn.Sequential(a, tied))) == ["0"]
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    with pytest.raises(SettingsError, match=r"1: its weight is computed .*remove the param"):
        weighted_layers(nn.Sequential(a, normed))
    with pytest.raises(SettingsError, match="no convolution and no linear"):
        weighted_layers(nn.Sequential(nn.ReLU()))


def test_masks_that_do_not_belong_or_leave_nothing_refuse_before_anything_changes():
    model = toy_net()
    before = model[4].weight.clone()
    good = torch.zeros_like(before, dtype=torch.bool)
    good[0] = True
    for masks, text in [
        ({"4": good, "9": good}, "'9' belongs to no layer"),
        ({"4": good[:1]}, "'4' belongs to no layer"),
        ({"4": good, "7": torch.zeros(4, 72, dtype=torch.bool)}, "every weight of 7"),
    ]:
        with pytest.raises(SettingsError, match=text):
            apply_masks(model, masks)
        assert torch.equal(model[4].weight, before)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Magnitude(ratio=1.0), "ratio is the share"),
        (lambda: Connections(per="epoch"), "per is 'batch' or 'instance'"),
        (lambda: Connections(price=-1), "price must not be negative"),
        (lambda: Units(price=float("nan")), "price must not be negative"),
        (lambda: Units(per="x"), "per is"),
    ],
)
def test_bad_settings(make, text):
    with pytest.raises(SettingsError, match=text):
        make()


def test_the_control_masks_nothing():
    assert NoMask().find(toy_net(), toy_data().train, seed=0) == {}


def test_layers_that_compute_other_weights_from_their_own_refuse():
    class Centred(nn.Conv2d):
        def forward(self, x):
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return self._conv_forward(x, weight, self.bias)

    class Padded(nn.Conv2d):  # linear in its weight, as timm's Conv2dSame
        def forward(self, x):
            return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))

    class Scaled(nn.Linear):
        def forward(self, x):
            return nn.functional.linear(x, self.weight / self.weight.norm(), self.bias)

    def net(layer):
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), layer)

    source = toy_data().train
    for layer in (Centred(4, 4, 3), Centred(4, 4, 3, groups=4), Scaled(4, 4)):
        model = net(layer)
        keep = torch.rand_like(layer.weight) > 0.5
        with pytest.raises(SettingsError, match=rf"2: {type(layer).__name__} does not multiply"):
            Magnitude().find(model, source, seed=0)
        with pytest.raises(SettingsError, match="2: "):
            apply_masks(model, {"2": keep})
    for layer in (
        Padded(4, 4, 3, stride=2, dilation=2, padding=1),
        Padded(4, 4, 1, groups=4, padding_mode="circular"),
    ):
        assert list(Magnitude().find(net(layer), source, seed=0)) == ["2"]
        assert list(prunable(net(layer).to(memory_format=torch.channels_last))) == ["2"]


def test_layers_of_timm():
    layers = pytest.importorskip("timm.layers")

    def net(layer):
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), layer)

    for kind in (layers.StdConv2d, layers.ScaledStdConv2d, layers.ScaledStdConv2dSame):
        with pytest.raises(SettingsError, match=kind.__name__):
            prunable(net(kind(4, 4, kernel_size=3)))
    assert list(prunable(net(layers.Conv2dSame(4, 4, 3, stride=2)))) == ["2"]
    assert unknown_weights(net(layers.CondConv2d(4, 4, 3))) == ["2.weight"]
    assert unknown_weights(toy_net()) == []


def test_calls_of_all_modules_that_share_a_weight_count():
    torch.manual_seed(0)
    first, a, b = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    twice = nn.Sequential(first, a, nn.ReLU(), b)
    b.weight, b.bias = a.weight, a.bias
    one = nn.Sequential(first, a, nn.ReLU(), a)
    source = toy_data().train
    found, expected = (Connections().energies(m, source, seed=0) for m in (twice, one))
    assert torch.equal(found["1"], expected["1"])


def test_a_dead_layer_has_its_own_message():
    model = toy_net()
    with torch.no_grad():
        model[4].bias.fill_(-100)
    with pytest.raises(SettingsError, match="4 carries nothing in any of 160 examples"):
        Connections().find(model, toy_data().train, seed=0)
