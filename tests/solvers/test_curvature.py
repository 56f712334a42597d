import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import twostroke as ts
from tests.solvers.networks import KINDS, problem
from twostroke.errors import UnholdableError
from twostroke.solvers import BlockSweep, HeldLoss
from twostroke.solvers.curvature import Curvature, flat, loss_curvature, named


@pytest.mark.parametrize("loss", [F.cross_entropy, F.mse_loss])
@pytest.mark.parametrize("kind", KINDS)
def test_products_are_those_of_the_dense_hessian(kind, loss):
    p = problem(kind, loss, count=12, chunk=5, weight_decay=0.01)
    for block in p.blocks:
        with p.solving():
            look = p.look(block.names)
            curvature = Curvature(p, block, look)

        def value(w: Tensor, block=block) -> Tensor:
            total = p.weight_decay / 2 * w.square().sum()
            for part in p.parts:
                mean = p.loss(p.output(part, named(w, block.names, p.weights)), part.y)
                total = total + len(part.y) / p.examples * mean
            return total

        w = flat(p.copy(block.names), block.names)
        u = torch.randn(w.shape, generator=torch.Generator().manual_seed(1)).double()
        H = torch.autograd.functional.hessian(value, w)
        assert torch.allclose(curvature.product(u), H @ u, rtol=1e-7, atol=1e-9)
        for part, t in zip(p.parts, curvature.along, strict=True):
            there = named(w + u, block.names, p.weights)
            assert torch.allclose(
                t, p.output(part, there) - p.output(part, {}), rtol=1e-9, atol=1e-11
            )


def test_a_loss_without_curvature_has_none():
    o = torch.ones(2, 3)
    assert not loss_curvature(lambda o, y: (o * y).mean(), o, torch.ones(2, 3), o).any()


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(self.layer(x).relu()).relu())


def refused(model: nn.Module, x: Tensor) -> str:
    model = model.double().eval()
    support = ts.record(model, x)
    p = HeldLoss.of(model, support, x, torch.zeros(len(x), dtype=torch.int64))
    with pytest.raises(UnholdableError) as error:
        BlockSweep().solve(p)
    return str(error.value)


def test_layers_that_the_output_is_not_affine_in_are_refused_by_name():
    x = torch.randn(6, 5, dtype=torch.float64)
    assert "weights of layer:" in refused(Twice(), x)
    norm = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 3))
    assert "weights of 0:" in refused(norm, x)
    pool = nn.Sequential(
        nn.Conv1d(1, 2, 2), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(4, 3)
    )
    assert "pooling=True" in refused(pool, 10 * x[:, None])


def test_the_others_are_still_solved_for():
    model, x = Twice().double().eval(), torch.randn(6, 5, dtype=torch.float64)
    p = HeldLoss.of(model, ts.record(model, x), x, torch.arange(6) % 3)
    result = BlockSweep(layers=("last",), steps=50).solve(p)
    assert result.objective < result.history[0].objective
