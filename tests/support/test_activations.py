from __future__ import annotations

import math
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import Tensor, nn

import twostroke as ts
from twostroke.errors import UnholdableError
from twostroke.support import HardThreshold, Site, Support
from twostroke.support.activations import select
from twostroke.support.bits import pack

from .helpers import (
    ACTIVATIONS,
    Call,
    Discarding,
    Residual,
    assert_equal_runs,
    assert_held_as_live,
    bits_equal,
    drawn_more,
    every_activation,
    images,
    nets,
    normal,
    random_masks,
    run,
    support_of,
)

# the corners of every function above, their neighbours, and what lies far away
CORNERS = torch.tensor(
    [0.0, -0.0, 6.0, 1.0, -1.0, 0.5, -0.5, 0.3, -0.3, 0.7, -0.2, 0.2, 0.25, 0.1, 0.9, -0.1, 0.4]
)
GRID = torch.cat(
    [
        CORNERS,
        torch.nextafter(CORNERS, torch.tensor(math.inf)),
        torch.nextafter(CORNERS, torch.tensor(-math.inf)),
        torch.tensor([7.0, -7.0, 6e4, -6e4, 1e-45]),
    ]
)


def grid(dtype: torch.dtype) -> Tensor:
    """(1, 3, n): the same numbers in three channels."""
    return GRID.to(dtype).expand(1, 3, -1).clone()


# -- right after recording -----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind", "make"), every_activation)
def test_held_right_after_recording_within_a_net(
    name: str, kind: str, make: Callable[[], nn.Module]
) -> None:
    torch.manual_seed(1)
    conv, last = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 2, 2)
    net = nn.Sequential(Residual(conv, make()), make(), nn.BatchNorm2d(3), make(), last)
    net.double().eval()
    support = assert_held_as_live(net, 2 * images())
    assert [site.kind for site in support.sites] == [kind] * 3
    assert assert_held_as_live(net.train(), 2 * images()).sites == support.sites


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.half])
@pytest.mark.parametrize(("name", "kind", "make"), every_activation)
def test_held_right_after_recording_at_the_corners(
    name: str, kind: str, make: Callable[[], nn.Module], dtype: torch.dtype
) -> None:
    # times one, because what works in place may not work on a leaf
    net = nn.Sequential(Call(lambda x: x * 1), make(), Call(lambda x: x * 1)).to(dtype)
    x = grid(dtype)

    def gradient() -> tuple[Tensor, list[Tensor | None]]:
        leaf = x.clone().requires_grad_()
        output = net(leaf)
        return output.detach(), [torch.autograd.grad(output.sum(), leaf)[0]]

    live = gradient()
    support = ts.record(net, x)
    with ts.hold(net, support):
        held = gradient()
    assert support.sites[0].kind == kind
    assert_equal_runs(live, held)


@drawn_more
@given(nets(), st.booleans())
def test_held_right_after_recording_in_drawn_nets(
    drawn_net: tuple[nn.Module, Tensor], pooling: bool
) -> None:
    net, x = drawn_net
    assert_held_as_live(net, x, pooling=pooling)
    if x.shape[0] > 1:
        assert_held_as_live(net.train(), x, pooling=pooling)


def test_one_module_called_many_times_has_a_site_for_each_call() -> None:
    relu, fc = nn.ReLU(), nn.Linear(4, 4)
    net = nn.Sequential(fc, relu, fc, relu, fc, relu).double()
    support = assert_held_as_live(net, normal(3, 4))
    assert [s.key for s in support.sites] == ["1#0", "1#1", "1#2"]
    assert not torch.equal(support["1#0"], support["1#1"])


@pytest.mark.parametrize("name", ["F.leaky_relu_", "clamp_(0, 1)", "Tensor.relu_, result unused"])
@pytest.mark.parametrize("gated", [False, True])
def test_in_place_changes_the_tensor_itself(name: str, gated: bool) -> None:
    net = nn.Sequential(Call(lambda x: x * 1), ACTIVATIONS[name][1]())
    x = normal(2, 3, 5)
    support = ts.record(net, x)
    with ts.hold(net, support, gated=gated):
        held = net(x)
    on = support["1"] | (support.pieces("1") > 0)
    assert torch.equal(held, torch.where(on, net(x), 0) if gated else net(x))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda y: y[:, :3].relu_(), (3,)),
        (lambda y: y.view(-1, 2, 3)[:, 1].clamp_(-0.1, 0.1), (3,)),
        (lambda y: F.leaky_relu_(y.view(-1, 3, 2), 0.1), (3, 2)),
        (lambda y: F.relu(y.t()[2:].t(), inplace=True), (4,)),
    ],
)
def test_part_of_a_tensor_in_place(
    function: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    net = nn.Sequential(nn.Linear(6, 6), Discarding(function), nn.Linear(6, 2)).double()
    support = assert_held_as_live(net, normal(4, 6))
    assert [s.shape for s in support.sites] == [shape]
    with ts.hold(net, support[[1, 0, 3, 2]]):
        held = net(normal(4, 6))
    assert not torch.equal(held, net(normal(4, 6)))


# -- masks that are not the network's own ----------------------------------------------------------


def slowly(act: nn.Module, kind: str, q: Tensor, masks: list[Tensor]) -> Tensor:
    """The held activation, by `torch.where`."""
    if kind in ("relu", "threshold"):
        return torch.where(masks[0], q, 0.0)
    if kind == "clamp":
        live = act(torch.stack([q * 0 - 100, q * 0 + 100]))
        high = torch.where(masks[1], live[1], live[0])
        return torch.where(masks[0], q, high)
    slopes = act(torch.full_like(q, -1.0)).neg()  # leaky: what -1 is multiplied by
    return torch.where(masks[0], q, slopes * q)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("name", "kind", "make"), [a for a in every_activation if a[0] != "clamp(min=0.2)"]
)
def test_held_on_any_masks(
    name: str, kind: str, make: Callable[[], nn.Module], shared: bool, gated: bool
) -> None:
    act = make().double()
    reference = make().double()
    net = nn.Sequential(Call(lambda x: x * 1), act)
    q = normal(2, 3, 4, 3)
    if name == "clamp(min=-0.2)":  # its upper piece is infinity: no unit is there
        site = Site("1", 0, kind, (3, 4, 3), 2)
        masks = {site: [torch.rand(q.shape) < 0.5, torch.zeros(q.shape, dtype=torch.bool)]}
        masks = {site: [m[:1] if shared else m for m in masks[site]]}
    else:
        sites = ts.sites(net, q)
        masks = random_masks(sites, 1 if shared else 2)
    (planes,) = masks.values()
    with ts.hold(net, support_of(masks, shared=shared), gated=gated):
        held = run(net, q)
    leaf = q.clone().requires_grad_()
    if gated:
        on = planes[0] | planes[1] if len(planes) == 2 else planes[0]
        expected = torch.where(on, reference(leaf * 1), 0.0)
    else:
        expected = slowly(nn.Sequential(Call(lambda x: x * 1), reference), kind, leaf, [*planes])
    assert torch.equal(held[0], expected)
    (gradient,) = torch.autograd.grad(expected.square().sum(), leaf)
    assert held[1][0] is not None
    torch.testing.assert_close(held[1][0], gradient, rtol=1e-14, atol=1e-14)


def test_a_one_sided_clamp_off_zero() -> None:
    act = Call(lambda x: x.clamp(min=0.2))
    q = normal(4, 3)
    mask = random_masks([Site("", 0, "clamp", (3,), 2)], 4)
    (site,) = mask
    mask[site][1] = torch.zeros(4, 3, dtype=torch.bool)
    with ts.hold(act, support_of(mask)):
        assert torch.equal(act(q), torch.where(mask[site][0], q, 0.2))


def test_prelu_learns_its_weight_where_the_mask_is_off() -> None:
    act = nn.PReLU(3).double()
    q = normal(4, 3, 5)
    (site,) = ts.sites(act, q)
    masks = random_masks([site], 4)
    with ts.hold(act, support_of(masks)):
        (got,) = torch.autograd.grad(act(q).sum(), act.weight)
    expected = torch.where(masks[site][0], 0.0, q).sum((0, 2))
    torch.testing.assert_close(got, expected)


def test_a_learned_threshold_has_no_gradient_while_held() -> None:
    act = HardThreshold(torch.zeros(3), learn=True)
    q = normal(4, 3, dtype=torch.float32).requires_grad_()
    with ts.hold(act, ts.record(act, q)):
        act(q).sum().backward()
    assert act.beta.grad is None


# -- pieces ----------------------------------------------------------------------------------------


def test_pieces_of_every_kind() -> None:
    q = grid(torch.float64)[0]
    for name, act, pieces in [
        ("relu", nn.ReLU(), (q > 0).long()),
        ("threshold", HardThreshold(0.25), (q > 0.25).long()),
        ("leaky_relu", nn.LeakyReLU(), (q > 0).long()),
        ("clamp", nn.ReLU6(), (q > 0).long() + (q >= 6).long()),
        ("clamp", nn.Hardtanh(-0.5, 0.5), (q > -0.5).long() + (q >= 0.5).long()),
    ]:
        support = ts.record(act, q)
        assert support.sites[0].kind == name
        assert torch.equal(support.pieces(support.sites[0]), pieces)
        assert torch.equal(support[support.sites[0]], pieces == 1)


# -- what is no site -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.clamp(max=0.5),
        lambda x: torch.clamp(x, min=torch.zeros(())),
        lambda x: torch.clamp(x, 0.5, 0.5),
        lambda x: torch.clamp(x, 1, -1),
        lambda x: F.threshold(x, 0.1, 20.0),
        lambda x: F.rrelu(x),
        lambda x: torch.clamp(x, min=0, out=torch.empty_like(x)),
    ],
)
def test_what_looks_like_a_site_and_is_none_is_refused(
    function: Callable[[Tensor], Tensor],
) -> None:
    net = nn.Sequential(nn.Linear(4, 4).double().requires_grad_(False), nn.ReLU(), Call(function))
    x = normal(3, 4)
    with pytest.raises(UnholdableError, match=" in 2"):
        ts.record(net, x)
    support = ts.record(net, x, strict=False)
    assert [s.key for s in support.sites] == ["1#0"]
    with ts.hold(net, support, strict=False):
        held = net(x)
    assert torch.equal(held, net(x))


def test_pooling_of_an_example_without_its_batch_is_refused() -> None:
    class Each(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([F.max_pool2d(image, 2) for image in F.relu(x)])

    with pytest.raises(UnholdableError, match="max_pool2d_with_indices in the model itself"):
        ts.record(Each(), images(), pooling=True)


def test_whole_numbers_and_vectors_are_left_alone() -> None:
    class Bookkeeping(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            scale = F.relu(x.detach().mean((0, 2)))  # (channels,)
            steps = torch.relu(torch.arange(-1, 3))
            return F.relu(x) * (1 + scale[:, None]) + steps.sum()

    net = Bookkeeping()
    assert [s.key for s in ts.sites(net, normal(2, 3, 5))] == ["#0"]
    assert_held_as_live(net, normal(2, 3, 5))


# -- the differentiable selection -----------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_select_in_all_directions_of_autograd(slope: float) -> None:
    q = normal(3, 4, 2).requires_grad_()
    packed = pack(torch.rand(3, 4, 2) < 0.5)

    def f(q: Tensor) -> Tensor:
        return select(q, packed, slope=slope)

    assert torch.autograd.gradcheck(f, q, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda q: f(q).pow(3), q)


@pytest.mark.parametrize("dims", [2, 3])
def test_gradients_keep_the_layout_of_the_pre_activation(dims: int) -> None:
    layout = torch.channels_last if dims == 2 else torch.channels_last_3d
    q = normal(2, 3, *[4] * dims).contiguous(memory_format=layout).requires_grad_()
    z = select(q, pack(q > 0))
    assert z.is_contiguous(memory_format=layout)
    # both arrive in another layout
    for loss in (z.mean(list(range(2, 2 + dims))).sum(), (z.contiguous() ** 2).sum()):
        (grad,) = torch.autograd.grad(loss, q, retain_graph=True)
        assert grad.is_contiguous(memory_format=layout)


def test_held_sites_keep_packed_bits_for_the_backward_pass_and_nothing_else() -> None:
    saved: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        saved.append(t)
        return t

    for act in (nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(), HardThreshold(0.1)):
        net = nn.Sequential(Call(lambda x: x * 1), act, Call(lambda x: x * 1))
        x = torch.randn(4, 64, requires_grad=True)
        support = ts.record(net, x)
        saved.clear()
        with ts.hold(net, support), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            net(x)
        assert [(t.dtype, t.numel()) for t in saved] == [(torch.uint8, 4 * 8)]


def test_in_place_is_seen_by_autograd_also_without_a_gradient() -> None:
    q, weight = torch.randn(2, 8), torch.ones(2, 8, requires_grad=True)
    z = q * weight  # keeps q
    assert select(q, pack(q > 0), inplace=True) is q
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
    with torch.inference_mode():
        q = torch.randn(2, 8)
        assert select(q, pack(q > 0), inplace=True) is q


def test_recording_in_half_precision_sees_what_the_layer_sees() -> None:
    q = torch.tensor([[1e-8, -1e-8, 6e-8, 0.0]], dtype=torch.float32)
    net = nn.Sequential(Call(lambda x: x.half()), nn.ReLU())
    assert ts.record(net, q)["1"].tolist() == [[False, False, True, False]]


@pytest.mark.parametrize(("name", "kind", "make"), every_activation)
def test_undefined_values_come_through_as_they_do_live(
    name: str, kind: str, make: Callable[[], nn.Module]
) -> None:
    # a network that has diverged must not look sound while it is held
    q = normal(2, 3, 4)
    q[0, 1, 2] = q[1, 0, 0] = math.nan
    net = nn.Sequential(Call(lambda x: x * 1), make()).double()
    live = net(q)
    with ts.hold(net, ts.record(net, q)):
        held = net(q)
    assert torch.equal(live.isnan(), held.isnan())
    assert torch.equal(live.nan_to_num(), held.nan_to_num())


@pytest.mark.parametrize(
    ("name", "kind", "make"), [a for a in every_activation if a[0] != "slope 0"]
)
def test_infinite_values_come_through_as_they_do_live(
    name: str, kind: str, make: Callable[[], nn.Module]
) -> None:
    q = torch.tensor([[[math.inf], [-math.inf], [1.0]]], dtype=torch.float64)
    net = nn.Sequential(Call(lambda x: x * 1), make()).double()
    live = net(q)
    with ts.hold(net, ts.record(net, q)):
        assert torch.equal(net(q), live)


def test_selection_keeps_infinite_values_out() -> None:
    act = nn.ReLU()
    site = Site("", 0, "relu", (2,))
    off = Support([site], torch.zeros(1, 1, dtype=torch.uint8))
    with ts.hold(act, off):
        held = act(torch.tensor([[math.inf, math.nan]]))
    assert bits_equal(held, torch.zeros(1, 2))


def test_discarding_helper_discards() -> None:
    # otherwise the tests of in-place functions above would test nothing
    assert torch.equal(Discarding(torch.relu)(torch.tensor([-1.0])), torch.tensor([-1.0]))
