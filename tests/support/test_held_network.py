"""What a held network computes, against the same network written out by hand."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from torch import Tensor, nn

import twostroke as ts
from twostroke.support import (
    BatchEnergy,
    Energy,
    HardThreshold,
    MajorityVote,
    PositiveThreshold,
    Rule,
    Support,
)

from .helpers import (
    ACTIVATIONS,
    TWICE_KEYS,
    Call,
    Twice,
    assert_equal_runs,
    assert_held_as_live,
    close,
    drawn,
    images,
    mlp,
    nets,
    normal,
    random_masks,
    run,
    support_of,
    twice,
)

# -- slow references: the same networks written out, with the masks in sight -----------------------


def batch_norm(x: Tensor, bn: nn.BatchNorm2d) -> Tensor:
    """Batch norm, from its formula."""
    if bn.training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    else:
        assert bn.running_mean is not None
        assert bn.running_var is not None
        mean, var = bn.running_mean, bn.running_var
    scale = bn.weight / (var + bn.eps).sqrt()
    return (x - mean.view(-1, 1, 1)) * scale.view(-1, 1, 1) + bn.bias.view(-1, 1, 1)


def slow_twice(net: Twice, x: Tensor, masks: dict[str, Tensor]) -> Tensor:
    """`Twice` where every ReLU is a given mask."""

    def m(key: str, q: Tensor) -> Tensor:
        return torch.where(masks[key], q, torch.zeros_like(q))

    c1, c2, fc = net.c1, net.c2, net.fc
    x = m("relu#0", batch_norm(F.conv2d(x, c1.weight, c1.bias), net.bn))
    x = m("relu#1", F.conv2d(x, c2.weight, c2.bias, padding=1)) + x
    x = m("#0", x - 0.5)
    x = m("#1", x * 0.5)
    x = m("#2", x.mean((2, 3)) - 0.1)
    return x @ fc.weight.T + fc.bias


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_held_is_what_the_written_out_network_computes(seed: int, train: bool) -> None:
    net, x = twice(seed).train(train), images(seed=seed)
    masks = random_masks(ts.sites(net, x), 4, seed=seed)
    with ts.hold(net, support_of(masks)):
        held = run(net, x)
    leaf = x.clone().requires_grad_()
    slow = slow_twice(net, leaf, {site.key: m[0] for site, m in masks.items()})
    close(held, slow, [leaf, *net.parameters()])


def test_its_own_masks_give_the_network_itself() -> None:
    net, x = twice(), images()
    support = assert_held_as_live(net, x)
    own = {key: support[key] for key in TWICE_KEYS}
    torch.testing.assert_close(slow_twice(net, x, own), net(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_shared_support_stands_for_every_example(seed: int) -> None:
    net = twice(seed)
    masks = random_masks(ts.sites(net, images(1)), 1, seed=seed)
    support = support_of(masks, shared=True)
    everyone = {site.key: m[0] for site, m in masks.items()}
    for count in (1, 3, 6):
        x = images(count, seed=seed)
        with ts.hold(net, support):
            held = run(net, x)
        leaf = x.clone().requires_grad_()
        close(held, slow_twice(net, leaf, everyone), [leaf, *net.parameters()])


def test_every_kind_of_piece_and_pooling_written_out() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.LeakyReLU(0.2),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 1),
        nn.ReLU6(),
        nn.Flatten(),
        nn.Linear(16, 6),
        nn.PReLU(6),
        nn.Linear(6, 6),
        HardThreshold(0.3),
        nn.Linear(6, 2),
    ).double()
    conv, leaky, _, one, _, _, fc, prelu, fc2, _, last = net
    x = normal(3, 3, 6, 6)
    sites = {site.path: site for site in ts.sites(net, x, pooling=True)}
    masks = random_masks(sites.values(), 3)
    index = sum(p.long() * 2**k for k, p in enumerate(masks[sites["2"]]))
    assert isinstance(index, Tensor)
    assert int(index.max()) < 16  # any place of the 4 × 4 plane
    with ts.hold(net, support_of(masks)):
        held = run(net, x)

    leaf = x.clone().requires_grad_()
    q = F.conv2d(leaf, conv.weight)
    z = torch.where(masks[sites["1"]][0], q, 0.2 * q)
    pooled = torch.stack(
        [
            torch.stack([z[n, c].flatten()[index[n, c].flatten()].view(2, 2) for c in range(4)])
            for n in range(3)
        ]
    )
    q = F.conv2d(pooled, one.weight, one.bias)
    linear, high = masks[sites["4"]]
    z = torch.where(linear, q, torch.where(high, 6.0, 0.0)).flatten(1)
    q = z @ fc.weight.T + fc.bias
    z = torch.where(masks[sites["7"]][0], q, prelu.weight * q)
    q = z @ fc2.weight.T + fc2.bias
    z = torch.where(masks[sites["9"]][0], q, 0.0)
    output = z @ last.weight.T + last.bias
    close(held, output, [leaf, *net.parameters()])
    assert isinstance(leaky, nn.LeakyReLU)


# -- the held network is affine --------------------------------------------------------------------


def matrix_of(net: nn.Module, support: Support, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Matrix and offset of the held network of each example: what it makes of every unit vector."""
    units = math.prod(shape[1:])
    inputs = torch.cat([torch.zeros(1, units), torch.eye(units)]).double().view(-1, *shape[1:])
    matrices, offsets = [], []
    for n in range(len(support)):
        with ts.hold(net, support[[n] * (units + 1)]), torch.no_grad():
            outputs = net(inputs)
        offsets.append(outputs[0])
        matrices.append((outputs[1:] - outputs[0]).T)
    return torch.stack(matrices), torch.stack(offsets)  # (batch, out, in), (batch, out)


@drawn
@given(nets(), st.integers(0, 1000))
def test_the_held_network_is_its_matrix(drawn_net: tuple[nn.Module, Tensor], seed: int) -> None:
    net, x = drawn_net
    assume(len(list(net.modules())) < 15)  # keep it quick
    support = ts.record(net, x, pooling=True)
    J, b = matrix_of(net, support, x.shape)
    other = normal(*x.shape, seed=seed)
    with ts.hold(net, support):
        for y in (x, other, -3 * other, torch.zeros_like(x)):
            held = net(y)
            expected = b + torch.einsum("noi,ni->no", J, y.flatten(1))
            torch.testing.assert_close(held, expected, rtol=1e-9, atol=1e-9)
    # and the matrix is the network's own derivative where the support comes from
    torch.testing.assert_close(net(x), b + torch.einsum("noi,ni->no", J, x.flatten(1)))


def test_the_matrix_is_the_jacobian_also_for_other_masks() -> None:
    net, x = twice(), images(1)
    masks = random_masks(ts.sites(net, x), 1, seed=4)
    support = support_of(masks)
    J, b = matrix_of(net, support, x.shape)
    with ts.hold(net, support):
        jacobian = torch.autograd.functional.jacobian(net, 5 * images(1, seed=9))
    torch.testing.assert_close(jacobian.view(J.shape), J, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(net(x), b + torch.einsum("noi,ni->no", J, x.flatten(1)))


def test_without_pooling_in_the_support_the_network_is_not_linear() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2)).double()
    x, y = images(1), images(1, seed=1)
    for pooling in (True, False):
        with ts.hold(net, ts.record(net, x, pooling=pooling)):
            additive = torch.allclose(net(x) + net(y), net(x + y))
        assert additive == pooling


def test_the_held_network_is_multilinear_in_its_weights() -> None:
    net, x = mlp(5, 7, 6, 3), normal(4, 5)
    for layer in (net[0], net[2], net[4]):
        layer.bias.data.zero_()
    support = support_of(random_masks(ts.sites(net, x), 4))
    for name in ("0.weight", "2.weight", "4.weight"):
        weight = net.get_parameter(name)
        one, two = normal(*weight.shape, seed=1), normal(*weight.shape, seed=2)
        outputs = []
        for value in (one, two, 2 * one - 3 * two):
            weight.data = value
            with ts.hold(net, support):
                outputs.append(net(x))
        torch.testing.assert_close(outputs[2], 2 * outputs[0] - 3 * outputs[1])


# -- gated ------------------------------------------------------------------------------------------


def test_gated_is_the_mask_on_top_of_relu() -> None:
    net, x = mlp(5, 8, 6, 3), normal(4, 5)
    masks = random_masks(ts.sites(net, x), 4)
    a, b = (m[0] for m in masks.values())
    leaf = x.clone().requires_grad_()
    z = torch.where(a, torch.relu(net[0](leaf)), 0.0)
    z = torch.where(b, torch.relu(net[2](z)), 0.0)
    with ts.hold(net, support_of(masks), gated=True):
        held = run(net, x)
    close(held, net[4](z), [leaf, *net.parameters()])


@pytest.mark.parametrize("name", ["nn.ReLU", "nn.ReLU in place", "F.relu6", "nn.LeakyReLU"])
def test_gated_by_what_is_on_anyway_changes_nothing(name: str) -> None:
    net = nn.Sequential(nn.Linear(5, 8), ACTIVATIONS[name][1](), nn.Linear(8, 2)).double()
    x = normal(4, 5)
    (site,) = ts.sites(net, x)
    all_on = [torch.ones(4, 8, dtype=torch.bool)] + [torch.zeros(4, 8, dtype=torch.bool)] * (
        site.planes - 1
    )
    live = run(net, x)
    with ts.hold(net, support_of({site: all_on}), gated=True):
        assert_equal_runs(live, run(net, x))


def test_gated_by_an_own_relu_support_changes_nothing() -> None:
    net, x = twice(), images()
    live = run(net, x)
    with ts.hold(net, ts.record(net, x), gated=True):
        assert_equal_runs(live, run(net, x))


# -- rules on the fly -------------------------------------------------------------------------------


def by_rule(net: nn.Sequential, x: Tensor, rule: Rule, gated: bool) -> Tensor:
    for layer in net:
        if not isinstance(layer, nn.ReLU):
            x = layer(x)
        else:
            x = torch.where(rule(x.detach()), torch.relu(x) if gated else x, 0.0)
    return x


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(
    "rule",
    [
        PositiveThreshold(0.2),
        PositiveThreshold(keep=0.5),
        Energy(0.3),
        Energy(density=0.5),
        BatchEnergy(0.4),
        BatchEnergy(density=0.5),
        MajorityVote(),
    ],
)
def test_a_rule_on_the_fly(rule: Rule, gated: bool) -> None:
    net, x = mlp(5, 8, 6, 3), normal(6, 5)
    with ts.hold(net, rule, gated=gated):
        held = run(net, x)
    leaf = x.clone().requires_grad_()
    close(held, by_rule(net, leaf, rule, gated), [leaf, *net.parameters()])
    # and it is what recording with the rule gives
    support = ts.record(net, x, rule=rule, gated=gated)
    assert support.shared == isinstance(rule, BatchEnergy | MajorityVote)
    with ts.hold(net, support, gated=gated):
        assert_equal_runs(held, run(net, x))


def test_relus_own_rule_on_the_fly_is_the_network_itself() -> None:
    net, x = twice(), images()
    live = run(net, x)
    with ts.hold(net, PositiveThreshold(0.0)):
        assert_equal_runs(live, run(net, x))


def test_a_rule_leaves_max_pooling_live() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.MaxPool2d(2)).double()
    x = images()
    with ts.hold(net, Energy(0.3)):
        held = net(x)
    q = net[0](x)
    assert torch.equal(held, F.max_pool2d(torch.where(q.square() > 0.3, q, 0.0), 2))


def test_a_rule_where_there_are_three_pieces() -> None:
    # what the rule keeps is on the piece where the function has it
    net = nn.Sequential(Call(lambda x: x * 1), nn.ReLU6())
    q = torch.tensor([[-4.0, -0.5, 0.5, 4.0, 8.0]])
    with ts.hold(net, Energy(1.0)):
        assert net(q).tolist() == [[-4.0, 0.0, 0.0, 4.0, 6.0]]
    with ts.hold(net, Energy(1.0), gated=True):
        assert net(q).tolist() == [[0.0, 0.0, 0.0, 4.0, 6.0]]
    assert ts.record(net, q, rule=Energy(1.0)).pieces("1").tolist() == [[1, 0, 0, 1, 2]]
    two = torch.cat([q, q])
    with ts.hold(net, BatchEnergy(1.0)):
        assert net(two).tolist() == [[-4.0, 0.0, 0.0, 4.0, 6.0]] * 2
