from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import twostroke as ts
from twostroke.errors import NestedHoldError, SettingsError, UnholdableError
from twostroke.support import HardThreshold, use_hard_threshold

from .helpers import ACTIVATIONS, Call, assert_held_as_live, images, normal, twice


def convnet(norm: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 4, 3, dtype=torch.float64),
        nn.BatchNorm2d(4).double() if norm else nn.Identity(),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 3, 3, dtype=torch.float64),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(27, 2, dtype=torch.float64),
    ]
    if norm:
        bias, mean = layers[1].bias, layers[1].running_mean
        assert isinstance(bias, Tensor)
        assert isinstance(mean, Tensor)
        bias.data.normal_()
        mean.normal_()
    else:
        del layers[1]
    return nn.Sequential(*layers)


def same_everywhere(net: nn.Module, before: dict[str, Tensor], kinds: list[type]) -> bool:
    now = net.state_dict()
    return (
        now.keys() == before.keys()
        and all(torch.equal(now[key], value) for key, value in before.items())
        and [type(m) for m in net.modules()] == kinds
    )


def refused(
    net: nn.Module, x: Any, *words: str, error: Any = UnholdableError, **options: Any
) -> None:
    """The swap is refused and changes nothing."""
    before = {key: value.clone() for key, value in net.state_dict().items()}
    kinds = [type(m) for m in net.modules()]
    training = [m.training for m in net.modules()]
    with pytest.raises(error) as caught:
        use_hard_threshold(net, x, **options)
    for word in words:
        assert word in str(caught.value)
    assert same_everywhere(net, before, kinds)
    assert [m.training for m in net.modules()] == training


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("learn", [False, True])
def test_thresholds_are_the_biases_with_the_other_sign(norm: bool, learn: bool) -> None:
    net, x = convnet(norm).eval(), images()
    was = copy.deepcopy(net)
    support = ts.record(net, x)
    assert use_hard_threshold(net, x, learn=learn, width=0.5) is net
    feeders = [1, 3] if norm else [0, 2]
    for i in feeders:
        act = net[i + 1]
        assert isinstance(act, HardThreshold)
        assert torch.equal(act.beta, -was[i].bias)
        assert not bool(net[i].bias.any())
        assert act.width == 0.5
        assert isinstance(act.beta, nn.Parameter) == learn
    assert torch.equal(net[-1].bias, was[-1].bias)
    after = ts.record(net, x)
    first = support.sites[0]
    assert torch.equal(after[first.key], support[first.key])
    # the values of the first layer differ by the bias where it is on
    q = was[: feeders[0] + 1](x)
    z = net[: feeders[0] + 2](x)
    b = was[feeders[0]].bias.view(-1, 1, 1)
    torch.testing.assert_close(z, torch.where(q > 0, q - b, 0.0))
    if not learn:  # while held, a threshold has no part, and no gradient
        assert_held_as_live(net, x)


def test_a_number_for_all_leaves_the_biases() -> None:
    net, x = convnet(), images()
    was = copy.deepcopy(net)
    use_hard_threshold(net, x, beta=0.25)
    assert [type(m) for m in net].count(HardThreshold) == 2
    z = was[0](x)
    z = was[2](torch.where(z > 0.25, z, 0.0))
    z = torch.where(z > 0.25, z, 0.0)
    assert torch.equal(net(x), was[4:](z))
    assert all(torch.equal(net.state_dict()[k], v) for k, v in was.state_dict().items())
    assert all(float(net[i].beta) == 0.25 for i in (1, 3))


def test_a_layer_without_a_bias_gets_zero() -> None:
    net = nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 3), nn.ReLU()).double()
    x = normal(5, 4)
    live = net[:2](x)
    use_hard_threshold(net, x)
    assert float(net[1].beta) == 0
    assert torch.equal(net[:2](x), live)


def test_modes_names_and_other_modules_stay() -> None:
    net = convnet(norm=True).train()
    net[2].eval()
    statistics = net[1].running_mean.clone()
    names = list(dict(net.named_modules()))
    modes = [m.training for m in net]
    use_hard_threshold(net, images())
    assert list(dict(net.named_modules())) == names
    assert [m.training for m in net] == modes
    assert torch.equal(net[1].running_mean, statistics)


def test_precision_follows_the_model() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        net = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).to(dtype)
        number = copy.deepcopy(net)
        use_hard_threshold(net, torch.ones(2, 4, dtype=dtype))
        use_hard_threshold(number, torch.ones(2, 4, dtype=dtype), beta=0.1, learn=True)
        for swapped in (net, number):
            assert swapped[1].beta.dtype == dtype
    assert float(number[1].beta.detach()) == float(torch.tensor(0.1, dtype=torch.bfloat16))


def test_one_relu_after_one_layer_called_twice() -> None:
    fc, relu = nn.Linear(4, 4), nn.ReLU()
    net = nn.Sequential(fc, relu, fc, relu).double()
    bias = fc.bias.detach().clone()
    use_hard_threshold(net, normal(3, 4))
    assert net[1] is net[3]
    assert torch.equal(net[1].beta, -bias)


class Names(nn.Module):
    """One ReLU under two names, and under a third in a part."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.one = nn.ReLU()
        self.two = self.one
        self.part = nn.Sequential(self.one)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(self.two(self.b(self.one(self.a(x)))))


def test_a_relu_of_several_names_is_swapped_under_each() -> None:
    net, x = Names(), normal(3, 4)
    use_hard_threshold(net, x, beta=0.3)
    assert isinstance(net.one, HardThreshold)
    assert net.one is net.two
    assert net.one is net.part[0]
    assert not any(isinstance(m, nn.ReLU) for m in net.modules())


def test_two_relus_after_one_layer_get_its_bias_both() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.one, self.two = nn.Linear(4, 4), nn.ReLU(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            q = self.fc(x)
            return self.one(q) - 0.5 * self.two(q)

    net = Fork().double()
    bias = net.fc.bias.detach().clone()
    use_hard_threshold(net, normal(3, 4))
    assert torch.equal(net.one.beta, -bias)
    assert torch.equal(net.two.beta, -bias)


def test_relus_that_the_batch_does_not_reach_stay() -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.relu, self.extra = nn.Linear(4, 4), nn.ReLU(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.extra(self.relu(self.fc(x))) if self.training else self.relu(self.fc(x))

    net = use_hard_threshold(Auxiliary().double().eval(), normal(3, 4))
    assert isinstance(net.relu, HardThreshold)
    assert isinstance(net.extra, nn.ReLU)


def test_other_activations_stay() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4), nn.ReLU(), nn.LeakyReLU())
    use_hard_threshold(net.double(), normal(3, 4))
    assert [type(m) for m in net[1::2]] == [nn.GELU, HardThreshold]
    assert isinstance(net[4], nn.LeakyReLU)


def test_a_compiled_model() -> None:
    torch._dynamo.reset()
    net, x = convnet(), images()
    compiled = torch.compile(net, backend="eager")
    live = compiled(x)
    assert use_hard_threshold(compiled, x) is compiled
    assert isinstance(net[1], HardThreshold)
    assert torch.equal(compiled(x), net(x))
    assert not torch.equal(compiled(x), live)


# -- refusals change nothing ----------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [None, 0.5])
def test_functions_are_refused(beta: float | None) -> None:
    refused(twice(), images(), "the model itself calls relu as a function", beta=beta)
    net = nn.Sequential(nn.Linear(4, 4), Call(F.relu), nn.Linear(4, 4), nn.ReLU()).double()
    refused(net, normal(3, 4), "1 calls relu as a function", beta=beta)


@pytest.mark.parametrize("name", ["clamp(min=0)", "Tensor.relu_", "F.relu_"])
def test_every_way_to_call_relu_is_refused(name: str) -> None:
    net = nn.Sequential(nn.Linear(4, 4), ACTIVATIONS[name][1](), nn.ReLU()).double()
    refused(net, normal(3, 4), "1 calls relu as a function")


def test_a_model_that_is_a_relu_is_refused() -> None:
    refused(nn.ReLU(), normal(3, 4), "the model itself", beta=0.1)


def test_several_layers_before_one_relu_are_refused() -> None:
    relu = nn.ReLU()
    net = nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu).double()
    refused(net, normal(3, 4), "1 is called 2 times", "an nn.ReLU of its own", "pass a number")
    use_hard_threshold(net, normal(3, 4), beta=0.1)
    assert net[1] is net[3]
    assert isinstance(net[1], HardThreshold)


def test_a_relu_after_no_layer_is_refused() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.relu = nn.Linear(4, 4), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.fc(x) + x)

    for net in (Sum().double(), nn.Sequential(nn.ReLU()), nn.Sequential(nn.Flatten(), nn.ReLU())):
        refused(net, normal(3, 4), "is fed by no layer with a bias")
    assert isinstance(
        use_hard_threshold(Sum().double(), normal(3, 4), beta=0.1).relu, HardThreshold
    )


@pytest.mark.parametrize("features", [4, 5])
def test_a_bias_that_does_not_lie_along_the_channels_is_refused(features: int) -> None:
    # (batch, 4 tokens, features): dimension 1 is no channel, also where the sizes agree
    net = nn.Sequential(nn.Linear(3, features), nn.ReLU()).double()
    refused(net, normal(2, 4, 3), "1 is fed by no layer with a bias for each channel")
    net = nn.Sequential(nn.LayerNorm(4), nn.ReLU()).double()
    refused(net, normal(2, 4, 4), "1 is fed by no layer")
    net = nn.Sequential(nn.LayerNorm((4, 3)), nn.ReLU()).double()
    refused(net, normal(2, 4, 3), "1 is fed by no layer")


@pytest.mark.parametrize("width", [0.0, -1.0])
def test_a_wrong_width_is_refused(width: float) -> None:
    refused(convnet(), images(), "width", error=SettingsError, width=width)


def test_a_relu_compiled_on_its_own_is_refused() -> None:
    net = nn.Sequential(nn.Linear(4, 4), torch.compile(nn.ReLU(), backend="eager")).double()
    refused(net, normal(3, 4), "1 is compiled on its own")


def test_a_model_that_fails_is_left_as_it_was() -> None:
    refused(convnet(), normal(2, 5, 7, 7), "channels", error=RuntimeError)
    net = convnet()
    with ts.recording(net), pytest.raises(NestedHoldError):
        use_hard_threshold(net, images())
    assert not any(isinstance(m, HardThreshold) for m in net.modules())


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.jit.script])
def test_forms_that_cannot_be_followed_are_refused(wrap: Callable[[nn.Module], nn.Module]) -> None:
    net = convnet()
    with pytest.raises(UnholdableError):
        use_hard_threshold(wrap(net), images())
    assert not any(isinstance(m, HardThreshold) for m in net.modules())
