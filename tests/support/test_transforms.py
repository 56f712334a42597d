"""Held networks under `torch.func`, forward mode, second derivatives, and numerical checks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import twostroke as ts
from twostroke.support import Energy, HardThreshold, Support

from .helpers import ACTIVATIONS, mlp, normal, random_masks, support_of

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")


def net_with(name: str) -> nn.Sequential:
    torch.manual_seed(0)
    act = ACTIVATIONS[name][1]
    return nn.Sequential(nn.Linear(4, 3), act(), nn.Linear(3, 3), act(), nn.Linear(3, 2)).double()


def random_support(net: nn.Module, x: Tensor) -> Support:
    return support_of(random_masks(ts.sites(net, x), len(x)))


KINDS = [
    "nn.ReLU",
    "nn.ReLU in place",
    "nn.LeakyReLU",
    "nn.PReLU by channel",
    "nn.ReLU6",
    "HardThreshold",
]


@pytest.mark.parametrize("name", KINDS)
def test_numerical_derivatives_of_the_held_network(name: str) -> None:
    net, x = net_with(name), normal(2, 4).requires_grad_()
    support = random_support(net, x)
    parameters = tuple(net.parameters())
    names = [n for n, _ in net.named_parameters()]

    def f(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(net, dict(zip(names, values, strict=True)), (x,))

    with ts.hold(net, support):
        assert torch.autograd.gradcheck(
            f, (x, *parameters), check_forward_ad=name != "nn.ReLU in place"
        )
        assert torch.autograd.gradgradcheck(lambda *a: f(*a).square(), (x, *parameters))


def test_numerical_derivatives_with_pooling() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()).double()
    x = normal(2, 1, 5, 5).requires_grad_()
    support = random_support(net, x)
    with ts.hold(net, ts.record(net, x, pooling=True)):
        assert torch.autograd.gradcheck(net, x, check_forward_ad=True)
    with ts.hold(net, support):
        assert torch.autograd.gradgradcheck(lambda x: net(x).square(), x)


@pytest.mark.parametrize("name", KINDS)
def test_jvp_and_vjp_are_products_with_the_matrix(name: str) -> None:
    net, x = net_with(name), normal(3, 4)
    support = random_support(net, x)
    with ts.hold(net, support):
        J = torch.autograd.functional.jacobian(net, x)  # (3, 2, 3, 4)
        tangent, cotangent = normal(3, 4, seed=1), normal(3, 2, seed=2)
        output, forward = jvp(net, (x,), (tangent,))
        again, back = vjp(net, x)
        torch.testing.assert_close(forward, torch.einsum("nomi,mi->no", J, tangent))
        torch.testing.assert_close(back(cotangent)[0], torch.einsum("nomi,no->mi", J, cotangent))
        assert torch.equal(output, net(x))
        assert torch.equal(again, net(x))
        torch.testing.assert_close(jacrev(net)(x), J)
        torch.testing.assert_close(jacfwd(net)(x), J)


def test_derivatives_by_parameters() -> None:
    net, x = net_with("nn.ReLU"), normal(3, 4)
    support = random_support(net, x)
    parameters = dict(net.named_parameters())
    with ts.hold(net, support):
        net(x).square().sum().backward()
        got = grad(lambda p: functional_call(net, p, (x,)).square().sum())(parameters)
        for name, p in parameters.items():
            torch.testing.assert_close(got[name], p.grad)
        tangents = {name: normal(*p.shape, seed=1) for name, p in parameters.items()}
        _, along = jvp(
            lambda p: functional_call(net, p, (x,)).square().sum(), (parameters,), (tangents,)
        )
    expected = sum(
        (tangents[n] * p.grad).sum() for n, p in parameters.items() if p.grad is not None
    )
    torch.testing.assert_close(along, expected)


def test_the_loss_of_a_held_network_is_quadratic_in_each_weight() -> None:
    net, x = net_with("nn.ReLU"), normal(3, 4)
    support = random_support(net, x)
    weight = net[2].weight.detach()

    def loss(w: Tensor) -> Tensor:
        return functional_call(net, {"2.weight": w}, (x,)).square().sum()

    with ts.hold(net, support):
        H = hessian(loss)(weight)
        H2 = hessian(loss)(weight + normal(3, 3, seed=4))
        torch.testing.assert_close(H, H2)
        slow = torch.autograd.functional.hessian(loss, weight)
    torch.testing.assert_close(H, slow)


def test_each_examples_gradient_under_a_shared_support() -> None:
    net, x = mlp(4, 6, 2), normal(5, 4)
    parameters = dict(net.named_parameters())
    masks = random_masks(ts.sites(net, x[:1]), 1)

    def loss(p: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(net, p, (x[None],)).square().sum()

    with ts.hold(net, support_of(masks, shared=True)):
        each = vmap(grad(loss), (None, 0))(parameters, x)
        for i in range(5):
            one = grad(loss)(parameters, x[i])
            for name in parameters:
                torch.testing.assert_close(each[name][i], one[name])


def test_an_ensemble_of_weights_under_one_support() -> None:
    net, x = mlp(4, 6, 2), normal(5, 4)
    support = random_support(net, x)
    many = {name: normal(7, *p.shape, seed=1) for name, p in net.named_parameters()}
    for inputs, dims in ((x, (0, None)), (normal(5, 7, 4), (0, 1))):
        with ts.hold(net, support):
            outputs = vmap(lambda p, x: functional_call(net, p, (x,)), dims)(many, inputs)
            for i in range(7):
                one = {name: p[i] for name, p in many.items()}
                alone = functional_call(net, one, (inputs[:, i] if dims[1] else inputs,))
                torch.testing.assert_close(outputs[i], alone)


@pytest.mark.parametrize("gated", [False, True])
def test_rules_on_the_fly_under_jvp_and_vjp(gated: bool) -> None:
    net, x = net_with("nn.ReLU"), normal(3, 4)
    support = ts.record(net, x, rule=Energy(0.2), gated=gated)
    tangent = normal(3, 4, seed=1)
    with ts.hold(net, support, gated=gated):
        expected = jvp(net, (x,), (tangent,))
        back = vjp(net, x)[1](expected[0])[0]
    with ts.hold(net, Energy(0.2), gated=gated):
        got = jvp(net, (x,), (tangent,))
        assert torch.equal(got[0], expected[0])
        torch.testing.assert_close(got[1], expected[1])
        torch.testing.assert_close(vjp(net, x)[1](got[0])[0], back)


def test_a_hard_threshold_under_transforms() -> None:
    torch.manual_seed(0)
    act = HardThreshold(torch.tensor([0.1, -0.2, 0.3]), learn=True, width=0.7)
    net = nn.Sequential(nn.Linear(4, 3), act, nn.Linear(3, 2)).double()
    x = normal(5, 4)
    parameters = dict(net.named_parameters())

    def loss(p: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(net, p, (x,)).square().sum()

    got = grad(loss)(parameters, x)
    each = vmap(grad(lambda p, x: loss(p, x[None])), (None, 0))(parameters, x)
    loss(parameters, x).backward()
    for name, p in parameters.items():
        torch.testing.assert_close(got[name], p.grad)
        torch.testing.assert_close(each[name].sum(0), p.grad)
    J = torch.autograd.functional.jacobian(net, x)
    torch.testing.assert_close(jacrev(net)(x), J)
