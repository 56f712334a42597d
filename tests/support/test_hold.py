from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import twostroke as ts
from twostroke.errors import SettingsError, SupportMismatchError, UnholdableError
from twostroke.support import (
    Energy,
    Site,
    Support,
)

from .helpers import (
    assert_equal_runs,
    assert_held_as_live,
    close,
    images,
    mlp,
    normal,
    random_masks,
    run,
    support_of,
    twice,
)

# -- how far pre-activations lie on the wrong side -------------------------------------------------


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
def test_inconsistency_is_the_mean_of_what_lies_on_the_wrong_side(
    in_place: bool, gated: bool
) -> None:
    net, x = mlp(5, 8, 6, 3), normal(4, 5)
    net[1].inplace = net[3].inplace = in_place
    masks = random_masks(ts.sites(net, x), 4)
    with ts.hold(net, support_of(masks), penalty=True, gated=gated) as held:
        net(x)
        got = held.inconsistency
    total, units, z = torch.zeros(()).double(), 0, x
    for layer, mask in zip((net[0], net[2]), masks.values(), strict=True):
        q = layer(z)
        wrong = (q > 0) != mask[0]
        total = total + torch.where(wrong, q.abs(), 0.0).sum()
        units += q.numel()
        z = torch.where(mask[0], torch.relu(q) if gated else q, 0.0)
    torch.testing.assert_close(got, total / units, rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(got, list(net.parameters()), allow_unused=True)
    slow = torch.autograd.grad(total / units, list(net.parameters()), allow_unused=True)
    for a, b in zip(ours, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_networks_own_support_is_consistent() -> None:
    net, x = twice(), images()
    with ts.hold(net, ts.record(net, x), penalty=True) as held:
        output = run(net, x)
        net(x)
        assert held.inconsistency == 0
    assert_equal_runs(run(net, x), output)


def test_the_penalty_changes_no_output() -> None:
    net, x = twice(), images()
    support = support_of(random_masks(ts.sites(net, x), 4))
    for gated in (False, True):
        with ts.hold(net, support, gated=gated):
            plain = run(net, x)
        with ts.hold(net, support, gated=gated, penalty=True):
            assert_equal_runs(plain, run(net, x))


def test_inconsistency_is_of_the_last_forward_pass() -> None:
    net, x = mlp(5, 8, 3), normal(4, 5)
    support = ts.record(net, x)
    with ts.hold(net, support, penalty=True) as held:
        net(-x)
        assert held.inconsistency > 0.1
        net(x)
        assert held.inconsistency == 0


def test_inconsistency_that_was_not_measured() -> None:
    net, x = mlp(5, 8, 3), normal(4, 5)
    support = ts.record(net, x)
    with ts.hold(net, support) as held:
        net(x)
        with pytest.raises(SettingsError, match="penalty=True"):
            _ = held.inconsistency
    with ts.hold(net, support, penalty=True) as held, pytest.raises(SettingsError, match="call"):
        _ = held.inconsistency


# -- some sites only ---------------------------------------------------------------------------------


def test_sites_that_are_left_out_stay_live() -> None:
    net, x = mlp(5, 8, 6, 3), normal(4, 5)
    masks = random_masks(ts.sites(net, x), 4)
    support = support_of(masks).restrict(["3"])
    with ts.hold(net, support, strict=False):
        held = run(net, x)
    leaf = x.clone().requires_grad_()
    (_, b) = (m[0] for m in masks.values())
    z = torch.where(b, net[2](torch.relu(net[0](leaf))), 0.0)
    close(held, net[4](z), [leaf, *net.parameters()])
    with ts.hold(net, support), pytest.raises(SupportMismatchError, match=r"1#0 has no mask"):
        net(x)


def test_holding_nothing_is_the_network_itself() -> None:
    net, x = twice(), images()
    live = run(net, x)
    with ts.hold(net, ts.record(net, x).restrict([]), strict=False):
        assert_equal_runs(live, run(net, x))


# -- supports that do not fit ------------------------------------------------------------------------


def refuses(net: nn.Module, support: Support, x: Tensor, *words: str, **options: Any) -> None:
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with ts.hold(net, support, **options), pytest.raises(SupportMismatchError) as caught:
        net(x)
    for word in words:
        assert word in str(caught.value)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    net(x)


def test_a_support_of_another_model() -> None:
    net, x = mlp(5, 8, 6, 3), normal(4, 5)
    refuses(net, ts.record(mlp(5, 9, 6, 3), x), x, "1#0", "(9,)", "(8,)")
    refuses(net, ts.record(mlp(5, 8, 3), x), x, "3#0 has no mask")
    renamed = nn.Sequential(nn.Identity(), *mlp(5, 8, 6, 3))
    refuses(net, ts.record(renamed, x), x, "1#0 has no mask")
    leaky = mlp(5, 8, 6, 3)
    leaky[3] = nn.LeakyReLU()
    refuses(net, ts.record(leaky, x), x, "3#0", "leaky_relu", "relu")
    refuses(leaky, ts.record(net, x), x, "3#0", "leaky_relu", "relu")
    clamped = mlp(5, 8, 6, 3)
    clamped[1] = nn.ReLU6()
    refuses(clamped, ts.record(net, x), x, "1#0", "clamp", "relu")


def test_a_support_of_another_batch() -> None:
    net, x = twice(), images(4)
    refuses(net, ts.record(net, images(3)), x, "relu#0", "of 3 examples", "batch of 4")
    refuses(net, ts.record(net, images(1)), x, "relu#0", "of 1 examples", "batch of 4")
    refuses(net, ts.record(net, x)[0:0], x, "of 0 examples")


def test_a_support_of_inputs_of_another_size() -> None:
    net = twice()
    refuses(net, ts.record(net, images()), normal(4, 3, 9, 7), "relu#0", "(4, 5, 5)", "(4, 7, 5)")


def test_a_support_on_another_device() -> None:
    net, x = twice(), images()
    refuses(net, ts.record(net, x).to("meta"), x, "on meta", "on cpu", "support.to('cpu')")


def test_a_support_for_a_model_on_another_device() -> None:
    net, x = mlp(5, 8, 3), normal(4, 5)
    support = ts.record(net, x)
    net.to("meta")
    with ts.hold(net, support), pytest.raises(SupportMismatchError, match="computes on meta"):
        net(x.to("meta"))


@pytest.mark.parametrize("what", ["nonsense", None, 3, torch.ones(2), [1]])
def test_what_is_neither_support_nor_rule(what: Any) -> None:
    with (
        pytest.raises(UnholdableError, match=f"not {type(what).__name__}"),
        ts.hold(mlp(5, 8, 3), what),
    ):
        pytest.fail("the block was entered")


@pytest.mark.parametrize("what", ["nonsense", None, lambda x: x])
def test_what_is_no_model(what: Any) -> None:
    site = Site("", 0, "relu", (1,))
    with (
        pytest.raises(UnholdableError, match=r"torch\.nn\.Module"),
        ts.hold(what, Support([site], torch.zeros(1, 1, dtype=torch.uint8))),
    ):
        pytest.fail("the block was entered")
    with pytest.raises(UnholdableError, match=r"torch\.nn\.Module"):
        ts.record(what, torch.ones(1, 1))


# -- forward passes within one hold ------------------------------------------------------------------


def test_two_forward_passes_in_one_hold() -> None:
    net, x = twice(), images()
    support = ts.record(net, x)
    live, other = run(net, x), images(seed=7)
    with ts.hold(net, support):
        assert_equal_runs(live, run(net, x))
        alone = net(other)
        assert_equal_runs(live, run(net, x))
    with ts.hold(net, support):
        assert torch.equal(net(other), alone)
    assert not torch.equal(net(other), alone)


def test_backward_after_the_hold_is_that_of_the_held_network() -> None:
    net, x = mlp(5, 8, 6, 3), normal(4, 5)
    support = support_of(random_masks(ts.sites(net, x), 4))
    with ts.hold(net, support):
        inside = run(net, x)
        leaf = x.clone().requires_grad_()
        output = net(leaf)
    grads = torch.autograd.grad(output.square().sum(), [leaf, *net.parameters()])
    assert_equal_runs(inside, (output.detach(), [*grads]))


def test_a_step_within_the_hold_leaves_the_support_alone() -> None:
    net, x = twice().train(), images()
    support = ts.record(net, x)
    rows = support.rows.clone()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    with ts.hold(net, support):
        for _ in range(5):
            optimiser.zero_grad()
            loss = (net(x) - 1).square().mean()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert torch.equal(support.rows, rows)
    assert support.drift(ts.record(net, x)) > 0


def test_an_empty_batch() -> None:
    net, x = twice(), images(0)
    support = ts.record(net, x)
    assert len(support) == 0
    with ts.hold(net, support):
        held = net(x)
    assert held.shape == (0, 5)
    net2 = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU6(), nn.PReLU(), nn.LeakyReLU()).double()
    assert_held_as_live(net2, x)


def test_a_layer_without_units() -> None:
    net, x = nn.Sequential(nn.ReLU(), nn.ReLU6(), nn.PReLU()), torch.zeros(3, 0, 2)
    support = ts.record(net, x)
    assert support.nbytes == 0
    assert support["0"].shape == support.pieces("1").shape == (3, 0, 2)
    with ts.hold(net, support):
        assert net(x).shape == (3, 0, 2)


# -- other ways to run -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.half])
def test_in_lower_precision(dtype: torch.dtype) -> None:
    net, x = twice(dtype=dtype), images().to(dtype)
    assert assert_held_as_live(net, x).sites == ts.record(twice(), images()).sites


def test_under_autocast() -> None:
    net, x = twice(dtype=torch.float32), images(dtype=torch.float32)

    def output(x: Tensor) -> Tensor:
        y = net(x)
        assert y.dtype == torch.bfloat16
        return y

    with torch.autocast("cpu", torch.bfloat16):
        support = assert_held_as_live(net, x)
        rule = ts.record(net, x, rule=Energy(0.2))
        with ts.hold(net, Energy(0.2)):
            on_the_fly = output(x)
        with ts.hold(net, rule):
            assert torch.equal(output(x), on_the_fly)
    assert support.drift(ts.record(net, x)) < 0.1


@pytest.mark.parametrize("train", [False, True])
def test_channels_last(train: bool) -> None:
    net, x = twice().to(memory_format=torch.channels_last).train(train), images()
    x = x.to(memory_format=torch.channels_last)
    support = assert_held_as_live(net, x)
    # a support does not depend on the layout
    plain = twice().train(train)
    assert ts.record(plain, images()).drift(support) == 0


def test_several_inputs_and_outputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)

        def forward(self, x: Tensor, y: Tensor, *, scale: float = 1.0) -> dict[str, Tensor]:
            return {"sum": F.relu(self.a(x) + self.b(y)) * scale, "b": F.relu(self.b(y))}

    net = Two().double()
    x, y = normal(4, 3), normal(4, 2)
    support = ts.record(net, (x, y))
    with ts.hold(net, support):
        held = net(x, y=y, scale=2.0)
    live = net(x, y, scale=2.0)
    assert all(torch.equal(held[key], live[key]) for key in live)
    assert [s.key for s in support.sites] == ["#0", "#1"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.MaxPool1d(2)),
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2)),
        lambda: nn.Sequential(nn.Conv3d(3, 2, 2), nn.ReLU(), nn.MaxPool3d(2)),
        lambda: nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Upsample(9)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, groups=1), nn.InstanceNorm2d(4), nn.ReLU()),
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)), nn.ReLU(), nn.Linear(4, 2)
        ),
    ],
)
def test_other_layers(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net = make().double()
    dims = {"Conv1d": (3, 9), "Conv3d": (3, 5, 5, 5)}
    first = type(next(m for m in net.modules() if list(m.parameters(recurse=False)))).__name__
    shape = (6,) if isinstance(net[-1], nn.Linear) else dims.get(first, (3, 6, 6))
    for train in (False, True):
        assert_held_as_live(net.train(train), normal(2, *shape), pooling=True)
