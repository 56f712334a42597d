"""Kinds of site that are added from outside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import twostroke as ts
from twostroke.errors import SettingsError, UnholdableError
from twostroke.support import register
from twostroke.support.activations import FUNCTIONS, Activation, Relu, select

from .helpers import Call, assert_equal_runs, assert_held_as_live, images, normal, run


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    before = dict(FUNCTIONS)
    yield
    FUNCTIONS.clear()
    FUNCTIONS.update(before)


def maximum_with_zero(q: Tensor, other: Tensor) -> Activation | None:
    return Relu(q) if not other.any() and not other.requires_grad else None


@torch.overrides.wrap_torch_function(lambda q: (q,))
def crelu(q: Tensor) -> Tensor:
    return torch.cat([torch.relu(q), torch.relu(-q)], 1)


class CRelu(Activation):
    kind = "crelu"

    def own(self) -> Sequence[Tensor]:
        return (self.q > 0,)

    def held(self, planes: Sequence[Tensor]) -> Tensor:
        return torch.cat([select(self.q, planes[0]), -select(self.q, ~planes[0])], 1)


class Gate(nn.Module):
    """A switch that is a method."""

    def forward(self, x: Tensor) -> Tensor:
        return self.switch(x, 2.0)

    @torch.overrides.wrap_torch_function(lambda self, q, scale: (q,))
    def switch(self, q: Tensor, scale: float) -> Tensor:
        return scale * q * (q > 0)


class Scaled(Activation):
    kind = "scaled"

    def __init__(self, _gate: Gate, q: Tensor, scale: float) -> None:
        super().__init__(q)
        self.scale = scale

    def own(self) -> Sequence[Tensor]:
        return (self.q > 0,)

    def held(self, planes: Sequence[Tensor]) -> Tensor:
        return self.scale * select(self.q, planes[0])


def net_of(switch: nn.Module, channels: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), switch, nn.Conv2d(channels, 2, 2), nn.ReLU(), nn.Conv2d(2, 2, 1)]
    return nn.Sequential(*layers).double()


def by_maximum(x: Tensor) -> Tensor:
    return torch.maximum(x, x.new_zeros(()))


MADE = {
    "relu": (maximum_with_zero, torch.maximum, lambda: net_of(Call(by_maximum))),
    "crelu": (CRelu, crelu, lambda: net_of(Call(crelu), 8)),
    "scaled": (Scaled, Gate.switch, lambda: net_of(Gate())),
}


@pytest.mark.parametrize("kind", MADE)
def test_held_right_after_recording_and_after_a_round_trip(kind: str, tmp_path: Path) -> None:
    reader, function, make = MADE[kind]
    register(reader, function)
    net, x = make(), images()
    support = assert_held_as_live(net, x)
    assert [s.kind for s in support.sites] == [kind, "relu"]
    assert support.sites[0].shape == (4, 5, 5)
    assert torch.equal(support["1"], net[0](x) > 0)
    support.save(tmp_path / "support")
    loaded = ts.Support.load(tmp_path / "support")
    assert loaded == support
    with ts.hold(net, loaded):
        held = run(net, x)
    assert_equal_runs(held, run(net, x))


def test_held_on_masks_that_are_not_its_own() -> None:
    register(CRelu, crelu)
    q = normal(3, 4, 5)
    act = Call(crelu)
    support = ts.record(act, q)[[2, 0, 1]]
    with ts.hold(act, support):
        held = act(q)
    m = support[""]
    assert torch.equal(held, torch.cat([torch.where(m, q, 0.0), torch.where(m, 0.0, -q)], 1))


def test_rules_serve_a_kind_from_outside_and_gating_is_refused_where_shapes_differ() -> None:
    register(CRelu, crelu)
    net, x = net_of(Call(crelu), 8), images()
    rule = ts.Energy(density=0.25)
    assert ts.record(net, x, rule=rule).density().by_site == pytest.approx(
        dict.fromkeys(ts.sites(net, x), 0.25), abs=0.1
    )
    with ts.hold(net, rule, gated=True), pytest.raises(UnholdableError, match="a crelu gives"):
        net(x)


def test_compiled() -> None:
    register(lambda q, other: Relu(q), torch.maximum)
    net, x = net_of(Call(by_maximum)), images()
    support = ts.record(net, x)[[1, 0, 3, 2]]
    with ts.hold(net, support):
        expected = net(x)
    torch._dynamo.reset()
    held = ts.compile_held(net, backend="eager")
    assert torch.equal(held(support, x), expected)


def test_what_is_not_registered_or_not_read_stays_refused() -> None:
    net, x = net_of(Call(lambda x: torch.maximum(x, x + x.sum()))), images()
    for _ in range(2):
        with pytest.raises(UnholdableError, match=r"maximum in 1.*register"):
            ts.record(net, x)
        register(maximum_with_zero, torch.maximum)  # which leaves these calls alone
    assert [s.key for s in ts.record(net, x, strict=False).sites] == ["3#0"]


def test_a_decorated_function_that_is_not_registered_is_refused() -> None:
    with pytest.raises(UnholdableError, match="relu in 1"):
        ts.record(net_of(Call(crelu), 8), images())


def test_a_plain_function_is_what_it_calls() -> None:
    net, x = net_of(Call(crelu.__wrapped__), 8), images()
    assert [s.key for s in assert_held_as_live(net, x).sites] == ["1#0", "1#1", "3#0"]


@pytest.mark.parametrize("function", [torch.relu, torch.Tensor.clamp_, nn.functional.max_pool2d])
def test_a_second_reader_is_refused_by_name(function: object) -> None:
    before = dict(FUNCTIONS)
    with pytest.raises(SettingsError, match=f"{function.__name__} is registered already"):
        register(CRelu, torch.sigmoid, function)
    assert before == FUNCTIONS
    register(FUNCTIONS[function], function)  # the same once more


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda q: q, r"does not show the calls of .*lambda.*wrap_torch_function"),
        (nn.GELU, "GELU is no function"),
        (nn.GELU(), "GELU.* is no function"),
        (Gate().switch, "switch is no function"),
        ("relu", "'relu' is no function"),
    ],
)
def test_what_pytorch_does_not_show_is_refused(function: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        register(CRelu, function)
