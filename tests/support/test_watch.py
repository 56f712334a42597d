from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import twostroke as ts
from twostroke.errors import UnholdableError
from twostroke.support import Energy, watch

from .helpers import Call, assert_equal_runs, assert_held_as_live, images, mlp, normal, run


def around(middle: nn.Module) -> nn.Sequential:
    """`middle` between layers, with a ReLU that can be held beside it."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), middle, nn.Linear(4, 4)).double()


class Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.gt(0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (x > 0)


class Attention(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.qkv, self.fused = nn.Linear(4, 12), fused

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x[:, None]).chunk(3, -1)
        if self.fused:
            return F.scaled_dot_product_attention(q, k, v)[:, 0]
        return (torch.softmax(q @ k.mT, -1) @ v)[:, 0]


class Lstm(nn.Module):
    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM, **options: Any) -> None:
        super().__init__()
        self.rnn = kind(4, 4, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x[:, None])[0][:, 0]


def steep(x: Tensor) -> Tensor:
    mask = x.detach() > 0
    return x * mask


REFUSED: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "GELU": ("gelu in 2", nn.GELU),
    "GELU tanh": ("gelu in 2", lambda: nn.GELU("tanh")),
    "SiLU": ("silu in 2", nn.SiLU),
    "sigmoid gate": ("sigmoid in 2", lambda: Call(lambda x: x * torch.sigmoid(x))),
    "GLU": ("glu in 2", lambda: Call(lambda x: F.glu(torch.cat([x, x], 1)))),
    "ELU": ("elu in 2", nn.ELU),
    "CELU": ("elu in 2", nn.CELU),
    "SELU": ("elu in 2", nn.SELU),
    "Tanh": ("tanh in 2", nn.Tanh),
    "Mish": ("mish in 2", nn.Mish),
    "Softplus": ("softplus in 2", nn.Softplus),
    "Softsign": ("abs in 2", nn.Softsign),
    "LogSigmoid": ("log_sigmoid", nn.LogSigmoid),
    "Hardswish": ("hardswish in 2", nn.Hardswish),
    "Hardsigmoid": ("hardsigmoid in 2", nn.Hardsigmoid),
    "Hardshrink": ("hardshrink in 2", nn.Hardshrink),
    "Softshrink": ("softshrink in 2", nn.Softshrink),
    "Tanhshrink": ("tanh in 2", nn.Tanhshrink),
    "RReLU": ("rrelu", nn.RReLU),
    "Threshold to 1": ("threshold in 2", lambda: nn.Threshold(0.0, 1.0)),
    "softmax": ("softmax in 2", lambda: nn.Softmax(1)),
    "attention": ("softmax in 2", lambda: Attention(False)),
    "fused attention": ("scaled_dot_product", lambda: Attention(True)),
    "LSTM": ("in 2.rnn", Lstm),
    "GRU": ("in 2.rnn", lambda: Lstm(nn.GRU)),
    "RNN": ("tanh in 2.rnn", lambda: Lstm(nn.RNN)),
    "RNN with ReLU": ("relu in 2.rnn", lambda: Lstm(nn.RNN, nonlinearity="relu")),
    "by hand": ("gt in 2", lambda: Call(lambda x: x * (x > 0))),
    "by hand, >=": ("ge in 2", lambda: Call(lambda x: x * (x >= 0))),
    "by hand, detached": ("gt in 2", lambda: Call(steep)),
    "by hand, where": ("lt in 2", lambda: Call(lambda x: torch.where(x < 0, 0.1 * x, x))),
    "by hand, maximum": (
        "maximum in 2",
        lambda: Call(lambda x: torch.maximum(x, torch.zeros_like(x))),
    ),
    "by hand, abs": ("abs in 2", lambda: Call(lambda x: (x + x.abs()) / 2)),
    "by hand, sign": ("sign in 2", lambda: Call(lambda x: x * (1 + x.sign()) / 2)),
    "by hand, heaviside": (
        "heaviside in 2",
        lambda: Call(lambda x: x * torch.heaviside(x.detach(), x.new_zeros(()))),
    ),
    "squared": ("pow in 2", lambda: Call(lambda x: x.square())),
    "power": ("pow in 2", lambda: Call(lambda x: x**2)),
    "own autograd function": ("gt in 2", lambda: Call(Own.apply)),
    "least of a row": ("min in 2", lambda: Call(lambda x: x - x.min(1, keepdim=True).values)),
    "most of a row": ("max in 2", lambda: Call(lambda x: x - x.max(1, keepdim=True)[0])),
    "median": ("median in 2", lambda: Call(lambda x: x - x.median(1, keepdim=True)[0])),
    "sorted": ("sort in 2", lambda: Call(lambda x: x.sort(1)[0])),
    "largest two": ("topk in 2", lambda: Call(lambda x: x.topk(4, 1)[0])),
    "exp": ("exp in 2", lambda: Call(torch.exp)),
    "sine": ("sin in 2", lambda: Call(torch.sin)),
    "arctangent": ("atan in 2", lambda: Call(torch.atan)),
    "up to whole": ("ceil in 2", lambda: Call(torch.ceil)),
    "rest of a division": ("remainder in 2", lambda: Call(lambda x: x.remainder(0.5))),
    "arcsine": ("asinh in 2", lambda: Call(torch.asinh)),
    "sign of another": ("copysign in 2", lambda: Call(lambda x: x.copysign(x + 1))),
    "beside what is made": ("lt in 2", lambda: Call(lambda x: x * (torch.zeros_like(x) < x))),
    "added to what is made": ("gt in 2", lambda: Call(lambda x: x * (torch.ones_like(x) + x > 1))),
    "a constant that was overwritten": (
        "gt in 2",
        lambda: Call(lambda x: x * (torch.zeros_like(x).add_(x) > 0.3)),
    ),
    "beside a constant": (
        "sigmoid in 2",
        lambda: Call(lambda x: torch.stack([torch.zeros_like(x), x]).sigmoid().sum(0)),
    ),
    "quantised": (
        "fake_quantize_per_tensor_affine",
        lambda: Call(lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -8, 7)),
    ),
    "rounded": ("round in 2", lambda: Call(lambda x: x + (x.round() - x).detach())),
    "upper clamp": ("clamp", lambda: Call(lambda x: x.clamp(max=0.5))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_path_and_name_unless_not_strict(name: str) -> None:
    what, make = REFUSED[name]
    net, x = around(make()), normal(3, 4)
    net.eval()
    for attempt in (
        lambda: ts.record(net, x),
        lambda: ts.sites(net, x),
        lambda: ts.record(net, x, rule=Energy(0.1)),
    ):
        with pytest.raises(UnholdableError, match="no support can be held for") as caught:
            attempt()
        assert what in str(caught.value)
        assert "in 2" in str(caught.value)
        assert "in 1" not in str(caught.value)
        assert "strict=False" in str(caught.value)
    live = run(net, x)
    support = ts.record(net, x, strict=False)
    assert [s.key for s in support.sites] == ["1#0"]
    with ts.hold(net, support), pytest.raises(UnholdableError, match="in 2"):
        net(x)
    with ts.hold(net, support, strict=False):
        assert_equal_runs(live, run(net, x))
    swapped = support[[1, 2, 0]]
    with ts.hold(net, swapped, strict=False):
        held = net(x)
    assert torch.equal(held, net[2:](torch.where(swapped["1"], net[0](x), 0.0)))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_scripted_part_is_refused() -> None:
    net = around(torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU())))
    x = normal(3, 4)
    with pytest.raises(UnholdableError, match="relu in 2"):
        ts.record(net, x)
    support = ts.record(net, x, strict=False)
    assert [s.key for s in support.sites] == ["1#0"]
    with ts.hold(net, support, strict=False):
        held = net(x)
    assert torch.equal(held, net(x))


def test_all_culprits_are_named_once() -> None:
    gelu = nn.GELU()
    net = nn.Sequential(
        gelu, nn.ReLU(), gelu, nn.Sequential(nn.SiLU()), Call(torch.tanh), nn.Linear(4, 2)
    )
    with pytest.raises(UnholdableError) as caught:
        ts.record(net.double(), normal(3, 4))
    assert "for: gelu in 0; silu in 3.0; tanh in 4. Replace" in str(caught.value)


def test_the_model_itself_is_a_place() -> None:
    with pytest.raises(UnholdableError, match="gelu in the model itself"):
        ts.sites(nn.GELU(), normal(3, 4))


# -- what is let pass --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(4),
        nn.LayerNorm(4),
        nn.Dropout(0.5),
        nn.Identity(),
        nn.Flatten(),
        Call(lambda x: x * 2 - x.mean(0)),
        Call(lambda x: torch.cat([x[:, 2:], x[:, :2]], 1).roll(1, 0)),
        Call(lambda x: x / x.shape[0] + x.new_ones(4)),
        Call(lambda x: x * (torch.arange(4) > 1)),
        Call(lambda x: F.pad(x[:, :2], (1, 1))),
        Call(lambda x: F.avg_pool1d(F.interpolate(x[:, None], 8), 2)[:, 0]),
        Call(lambda x: x * (torch.rand_like(x) < 0.8)),
        Call(lambda x: x * (torch.rand(x.shape) + torch.tensor(0.8) > 1)),
        Call(lambda x: x * (torch.empty_like(x).uniform_() < 0.5)),
        Call(lambda x: x * x.new_empty(len(x), 1).bernoulli_(0.8).abs()),
        Call(lambda x: x + torch.randn_like(x).mul(0.1).view(-1).view_as(x).tanh()),
    ],
)
@pytest.mark.parametrize("train", [False, True])
def test_linear_layers_and_bookkeeping_pass(layer: nn.Module, train: bool) -> None:
    net = around(layer).train(train)
    assert [s.key for s in ts.sites(net, normal(3, 4))] == ["1#0"]


HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "softmax": lambda x: F.softmax(x, 1),
    "sigmoid": torch.sigmoid,
    "sigmoid_": torch.sigmoid_,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "logsigmoid": F.logsigmoid,
    "softmax, reshaped": lambda x: F.softmax(x, 1).view(-1, 2, 2),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_the_losss_affair(name: str) -> None:
    net = nn.Sequential(mlp(4, 6, 4), Call(HEADS[name]))
    support = assert_held_as_live(net, normal(3, 4))
    assert [s.key for s in support.sites] == ["0.1#0"]


@pytest.mark.parametrize("name", HEADS)
def test_the_same_in_the_middle_is_not(name: str) -> None:
    net = nn.Sequential(mlp(4, 6, 4), Call(HEADS[name]), nn.Flatten(), nn.Linear(4, 4)).double()
    with pytest.raises(UnholdableError, match="in 1"):
        ts.sites(net, normal(3, 4))


def test_a_head_is_told_from_a_layer_whose_memory_the_output_takes_over() -> None:
    # without gradients the softmax is freed, and a later result may lie in its place
    for depth in range(1, 8):
        for size in (4, 64, 4096):
            fillers = [Call(lambda x: x * 0.5) for _ in range(depth)]
            net = nn.Sequential(nn.ReLU(), nn.Softmax(1), *fillers)
            with pytest.raises(UnholdableError, match="softmax in 1"):
                ts.record(net, torch.randn(8, size))


def test_a_gate_that_is_a_head_elsewhere_is_refused_beside_one() -> None:
    net = nn.Sequential(nn.ReLU(), Call(lambda x: x * torch.sigmoid(x)), nn.Sigmoid())
    with pytest.raises(UnholdableError) as caught:
        ts.record(net, normal(3, 4))
    assert "sigmoid in 1. Replace" in str(caught.value)


# -- when is watched ---------------------------------------------------------------------------------


def watched(net: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a strict pass of the model is looked at."""
    entered = []
    real = watch.Watch.__enter__

    def enters(self: watch.Watch) -> Any:
        entered.append(self)
        return real(self)

    monkeypatch.setattr(watch.Watch, "__enter__", enters)
    ts.sites(net, x)
    monkeypatch.setattr(watch.Watch, "__enter__", real)
    return bool(entered)


def test_a_model_that_passed_is_not_watched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = around(nn.Identity()), normal(3, 4)
    assert watched(net, x, monkeypatch)
    assert not watched(net, x, monkeypatch)
    assert watched(copy.deepcopy(net), x, monkeypatch)
    assert watched(net.eval(), x, monkeypatch)
    assert not watched(net, x, monkeypatch)


def test_a_model_that_did_not_pass_is_watched_again() -> None:
    net, x = around(nn.GELU()), normal(3, 4)
    for _ in range(3):
        with pytest.raises(UnholdableError, match="gelu in 2"):
            ts.sites(net, x)
    with ts.hold(net, Energy(0.1)):
        for _ in range(3):
            with pytest.raises(UnholdableError, match="gelu in 2"):
                net(x)


def test_a_pass_without_strictness_is_no_pass() -> None:
    net, x = around(nn.GELU()), normal(3, 4)
    ts.sites(net, x, strict=False)
    with pytest.raises(UnholdableError):
        ts.sites(net, x)


def test_an_activation_swapped_after_the_model_passed_is_found() -> None:
    net, x = around(nn.ReLU()), normal(3, 4)
    support = ts.record(net, x)
    net[2] = nn.GELU()
    with pytest.raises(UnholdableError, match="gelu in 2"):
        ts.record(net, x)
    with ts.hold(net, support), pytest.raises(UnholdableError, match="gelu in 2"):
        net(x)
    net[2] = nn.ReLU()
    assert ts.record(net, x) == support


def test_a_pass_that_broke_off_is_no_pass() -> None:
    net, x = around(nn.GELU()), normal(3, 4)
    with pytest.raises(RuntimeError):
        ts.sites(net, normal(3, 5))
    with pytest.raises(UnholdableError):
        ts.sites(net, x)


def test_both_modes_are_looked_at() -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu, self.gelu = nn.ReLU(), nn.GELU()

        def forward(self, x: Tensor) -> Tensor:
            return self.gelu(self.relu(x)) * 2 if self.training else self.relu(x)

    net, x = Auxiliary().eval(), normal(3, 4)
    ts.record(net, x)
    with pytest.raises(UnholdableError, match="gelu in gelu"):
        ts.record(net.train(), x)


def test_a_model_is_not_kept_alive() -> None:
    net = around(nn.Identity())
    ts.record(net, normal(3, 4))
    with ts.hold(net, Energy(0.1)):
        net(normal(3, 4))
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


def test_the_loss_is_not_looked_at() -> None:
    net, x = around(nn.Identity()), normal(3, 4)
    with ts.hold(copy.deepcopy(net), Energy(0.1)), ts.recording(net) as recorder:
        loss = F.cross_entropy(net(x), torch.tensor([0, 1, 2])) + F.gelu(net(x)).sigmoid().sum()
        loss.backward()
    assert len(recorder.sites) == 1


def test_pooling_that_is_not_recorded_is_no_culprit() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 2), nn.MaxPool2d(2), nn.ReLU(), nn.AdaptiveMaxPool2d(1))
    for pooling in (False, True):
        assert_held_as_live(copy.deepcopy(net).double(), images(), pooling=pooling)


def test_pooling_of_another_kind_is_a_culprit() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 2), nn.ReLU(), nn.FractionalMaxPool2d(2, output_size=2))
    with pytest.raises(UnholdableError, match="fractional_max_pool2d in 2"):
        ts.record(net.double(), images())
    net[2] = nn.LPPool2d(2, 2)
    with pytest.raises(UnholdableError, match="in 2"):
        ts.record(net, images())
