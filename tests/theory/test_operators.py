"""The operators of eq. 14–20: conformance, agreement with the network, structure."""

import pytest
import torch
from torch import nn

from twostroke import record
from twostroke.errors import UnholdableError
from twostroke.theory import (
    DenseOperator,
    chain,
    gaussian_operator,
    lifted_operator,
    lifted_weights,
    path_operator,
    unlift_blocks,
    weight_vectors,
)
from twostroke.theory.lifting import vec
from twostroke.theory.operator import LinearOperator

from .conformance import OperatorConformance
from .networks import NETWORKS, TWO_LAYERS, build, linear


class TestDense(OperatorConformance):
    def make(self):
        return DenseOperator(self.truth(), blocks=(2, 3, 2))

    def truth(self):
        return self.draw(7 * 12).view(7, 12)


class TestGaussian(OperatorConformance):
    def make(self):
        return gaussian_operator(9, 3, 4)


class TestBaseOnly(OperatorConformance):
    """An operator that gives `_matvec` and nothing else."""

    def make(self):
        class Differences(LinearOperator):
            def _matvec(self, v):
                return v[1:] - v[:-1]

        return Differences((6, 7), dtype=torch.float64, device=torch.device("cpu"))

    def truth(self):
        eye = torch.eye(7, dtype=torch.float64)
        return eye[1:] - eye[:-1]


class TestLifted(OperatorConformance):
    def make(self):
        model, x, support = build("4-3-2")
        return lifted_operator(model, support, x)

    def truth(self):
        """Eq. 17 as printed, `U(2) = vec(U(1))ᵀ ⊗ M(2)`, with column-major vec."""
        _, x, support = build("4-3-2")
        rows = []
        for xn, mask in zip(x, support["1#0"].double(), strict=True):
            U = torch.kron(xn[None], mask.diag())
            rows.append(torch.kron(U.T.reshape(1, -1), torch.eye(2, dtype=torch.float64)))
        return torch.cat(rows)


class TestLiftedThree(OperatorConformance):
    def make(self):
        model, x, support = build("3-4-3-2", seed=1)
        return lifted_operator(model, support, x)


class TestLiftedConvolution(OperatorConformance):
    def make(self):
        model, x, support = build("conv", batch=2)
        return lifted_operator(model, support, x)


class TestPaths(OperatorConformance):
    def make(self):
        model, x, support = build("4-3-2")
        return path_operator(model, support, x)


class TestPathsConvolution(OperatorConformance):
    def make(self):
        model, x, support = build("conv, fully connected")
        return path_operator(model, support, x)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seed", [0, 1])
def test_output_is_u_v(name, seed):
    model, x, support = build(name, seed=seed)
    y = model(x).detach().reshape(-1)
    U, v = lifted_operator(model, support, x), lifted_weights(model)
    for got in (
        U.matvec(v),
        U.dense(limit_bytes=1 << 30) @ v,
        chain(model, support, x).forward(weight_vectors(model)).reshape(-1),
    ):
        torch.testing.assert_close(got, y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_held_masks_a_chain_is_the_relu_network(name):
    model, x, support = build(name, seed=1)
    other, _, _ = build(name, seed=2)
    if isinstance(model[-1], nn.ReLU):  # the chain holds its last mask
        model, other = model[:-1], other[:-1]
    got = chain(model, support, x).forward(weight_vectors(other), held=False)
    torch.testing.assert_close(got, other(x).detach().flatten(1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", TWO_LAYERS)
def test_path_form_is_the_lifted_operator_without_zero_columns(name):
    model, x, support = build(name)
    paths = path_operator(model, support, x)
    U = lifted_operator(model, support, x).dense(limit_bytes=1 << 30)
    torch.testing.assert_close(U[:, paths.columns], paths.dense(), rtol=1e-10, atol=1e-12)
    rest = torch.ones(U.shape[1], dtype=torch.bool)
    rest[paths.columns] = False
    assert (U[:, rest] == 0).all()
    got = paths.matvec(paths.lift(*weight_vectors(model)))
    torch.testing.assert_close(got, model(x).detach().reshape(-1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("sizes", "share"), [((4, 3, 2), 2 / 3), ((3, 5, 2), 4 / 5), ((6, 1, 4), 0)]
)
def test_share_of_zero_columns_is_one_minus_one_over_h(sizes, share):
    model = linear(*sizes).double()
    x = torch.randn(200, sizes[0], dtype=torch.float64)
    support = record(model, x)
    U = lifted_operator(model, support, x).dense(limit_bytes=1 << 30)
    assert (U == 0).all(0).double().mean() == pytest.approx(share)
    assert path_operator(model, support, x).share_of_zeros == pytest.approx(share)


def test_blocks_are_rank_one_and_give_the_weights_back():
    for name in TWO_LAYERS:
        model, x, support = build(name)
        paths = path_operator(model, support, x)
        p = paths.restrict(lifted_weights(model)).view(paths.blocks)
        X, Y, residual = unlift_blocks(p)
        assert residual.max() < 1e-14
        one, two = paths.factors(X, Y)
        torch.testing.assert_close(paths.lift(one, two), p.reshape(-1), rtol=1e-10, atol=1e-12)


def test_column_major_vec():
    W = torch.arange(6.0).view(2, 3)
    assert vec(W).tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Linear(4, 3, bias=False), nn.LayerNorm(3)), r"1 \(LayerNorm\)"),
        (
            nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.Linear(3, 2, bias=False)),
            "1 meets images",
        ),
        (nn.Sequential(nn.Conv2d(4, 4, 1, groups=2, bias=False)), "0 is a convolution in groups"),
        (nn.Sequential(nn.Linear(4, 3)), "0 has a bias"),
        (nn.Sequential(nn.Identity()), "no weight layer"),
    ],
)
def test_chain_refuses_by_name(model, words):
    model = model.double()
    x = torch.randn(2, 4, 3, 3) if "Conv" in str(model) else torch.randn(2, 4)
    _, _, support = build("4-3-2")
    with pytest.raises(UnholdableError, match=words):
        chain(model, support, x.double())


def test_the_path_form_is_for_two_layers():
    model, x, support = build("3-4-3-2")
    with pytest.raises(UnholdableError, match="two layers, not 3"):
        path_operator(model, support, x)
