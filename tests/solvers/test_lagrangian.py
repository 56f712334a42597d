import pytest
import torch
import torch.nn.functional as F
from torch import nn

import twostroke as ts
from tests.solvers.networks import CHAINS, made, objective, problem
from twostroke.errors import SettingsError, UnholdableError
from twostroke.outcome import Status
from twostroke.solvers import AugmentedLagrangian, HeldLoss
from twostroke.solvers.lagrangian import _Splitting
from twostroke.solvers.stages import stages


@pytest.mark.parametrize("kind", CHAINS)
def test_the_stages_are_the_held_network(kind):
    p = problem(kind)
    p.put({n: w + 0.1 * torch.randn_like(w) for n, w in p.copy().items()})
    with p.solving():
        read = stages(p)
        z = read.x
        for stage in read.stages:
            z = stage.between(stage.run(z, p.copy()))
        assert torch.allclose(z, torch.cat([p.output(part, {}) for part in p.parts]), rtol=1e-12)


@pytest.mark.parametrize("loss", [F.cross_entropy, F.mse_loss])
@pytest.mark.parametrize("kind", CHAINS)
def test_the_held_objective_never_rises(kind, loss):
    p = problem(kind, loss, weight_decay=1e-3)
    start = objective(p)
    result = AugmentedLagrangian(steps=8).solve(p)
    values = [point.objective for point in result.history]
    assert values[0] == pytest.approx(start, rel=1e-12)
    assert values == sorted(values, reverse=True)
    assert result.objective == pytest.approx(objective(p), rel=1e-11)
    assert result.objective < 0.95 * start
    assert result.passes > 8


def test_with_one_layer_it_is_least_squares():
    """Nothing is nested: the split problem is convex, and its solution the block's."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 2), nn.ReLU()).double().eval()
    x, y = torch.randn(50, 6, dtype=torch.float64), torch.randn(50, 2, dtype=torch.float64)
    support = ts.record(model, x)
    p = HeldLoss.of(model, support, x, y, loss=F.mse_loss)
    result = AugmentedLagrangian(steps=300, inner=20, rho=0.1).solve(p)
    assert result.status is Status.CONVERGED
    mask = support[support.sites[0]].double()
    ones = torch.cat([x, torch.ones(50, 1, dtype=torch.float64)], 1)
    for k in range(2):
        A = mask[:, k, None] * ones
        w = torch.linalg.lstsq(A, y[:, k]).solution
        assert torch.allclose(model[1].weight[k], w[:-1], atol=1e-5)
        assert torch.allclose(model[1].bias[k], w[-1], atol=1e-5)


def test_each_of_its_least_squares_problems_is_solved():
    """With many inner steps, neither pre-activations nor weights can be moved to lower their term."""
    p = problem("fully connected", F.mse_loss)
    with p.solving():
        split = _Splitting(AugmentedLagrangian(inner=200), p)
        split.u = [0.1 * torch.randn_like(q) for q in split.q]
        first, second = split.read.stages[:2]

        def price(q):
            misfit = q - first.run(split.read.x, split.w) + split.u[0]
            after = split.q[1] + split.u[1] - second.run(first.between(q), split.w)
            return misfit.square().sum() + after.square().sum()

        aim = first.run(split.read.x, split.w) - split.u[0]
        q = split._against_next(0, aim)
        with torch.enable_grad():
            q.requires_grad_()
            (g,) = torch.autograd.grad(price(q), q)
        assert float(g.norm()) < 1e-4 * float(q.norm())


def refusal(model: nn.Module, x: torch.Tensor) -> str:
    model = model.double().eval()
    support = ts.record(model, x, pooling=True)
    with pytest.raises(UnholdableError) as error:
        AugmentedLagrangian().solve(
            HeldLoss.of(model, support, x, torch.zeros(len(x), dtype=torch.int64))
        )
    return str(error.value)


def test_models_that_are_no_chain_are_refused_by_name():
    for kind, name in (("residual", "2 (Residual)"), ("max pooling", "1 (LeakyReLU)")):
        model, _, x, _ = made(kind)
        assert name in refusal(model, x)
    mini = ts.models.create_model("allcnn-mini", in_channels=1)
    assert "the model itself (Mini)" in refusal(mini, torch.randn(3, 1, 28, 28).double())
    same = nn.Linear(4, 4)
    twice = nn.Sequential(same, nn.ReLU(), same)
    assert "twice" in refusal(twice, torch.randn(3, 4).double())


class Scaled(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_forward_of_its_own_is_found_out():
    layers = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)
    assert "(Scaled)" in refusal(Scaled(*layers), torch.randn(3, 4).double())
    hooked = nn.Sequential(*layers)
    hooked.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert "a hook" in refusal(hooked, torch.randn(3, 4).double())


def test_frozen_layers_stay():
    p = problem("batch norm")
    p.model[4].requires_grad_(False)
    before = p.model[4].weight.detach().clone()
    result = AugmentedLagrangian(steps=5).solve(HeldLoss(p.model, p.parts))
    assert torch.equal(p.model[4].weight, before)
    assert result.objective < result.history[0].objective


def test_settings_out_of_range_are_refused():
    for setting in ({"steps": 0}, {"inner": 0}, {"rho": 0.0}, {"tolerance": -1.0}):
        with pytest.raises(SettingsError, match=next(iter(setting))):
            AugmentedLagrangian(**setting)
