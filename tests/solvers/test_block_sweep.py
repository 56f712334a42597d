from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import nn

import twostroke as ts
from tests.solvers.networks import KINDS, objective, problem
from twostroke.errors import SettingsError
from twostroke.outcome import Status
from twostroke.solvers import LBFGS, AugmentedLagrangian, BlockSweep, HeldLoss
from twostroke.solvers.curvature import flat, named


@settings(max_examples=8, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    loss=st.sampled_from([F.cross_entropy, F.mse_loss]),
    seed=st.integers(0, 999),
    decay=st.sampled_from([0.0, 0.01]),
    damping=st.sampled_from([0.0, 1e-3, 1.0]),
)
def test_the_held_objective_never_rises(kind, loss, seed, decay, damping):
    p = problem(kind, loss, seed, count=24, chunk=10, weight_decay=decay)
    start = objective(p)
    result = BlockSweep(sweeps=2, steps=4, damping=damping).solve(p)
    values = [point.objective for point in result.history]
    assert values[0] == pytest.approx(start, rel=1e-12)
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(objective(p), rel=1e-11)
    assert values[-1] < start
    passes = [point.passes for point in result.history]
    assert passes == sorted(passes)
    assert result.passes == pytest.approx(p.passes)


def least_squares(p: HeldLoss, block) -> tuple[torch.Tensor, float]:
    """The block's nearest optimal weights by a dense least-squares solver, and the objective there."""
    w = flat(p.copy(block.names), block.names)
    eye = torch.eye(block.size, dtype=torch.float64)
    outputs = []
    for there in (0 * w, *eye):
        values = named(there, block.names, p.weights)
        outputs.append(torch.cat([p.output(part, values).reshape(-1) for part in p.parts]))
    J = torch.stack([o - outputs[0] for o in outputs[1:]], 1)
    misfit = torch.cat([part.y.reshape(-1) for part in p.parts]) - outputs[0]
    ridge = (p.weight_decay * len(misfit) / 2) ** 0.5
    A = torch.cat([J, ridge * eye])
    b = torch.cat([misfit, 0 * w])
    solution = w + torch.linalg.lstsq(A, b - A @ w, driver="gelsd").solution
    others = {n: v for n, v in p.copy().items() if n not in block.names}
    decay = p.weight_decay / 2 * sum(float(v.square().sum()) for v in others.values())
    return solution, float((A @ solution - b).square().sum()) / len(misfit) + decay


@pytest.mark.parametrize(
    ("kind", "decay"), [("without bias", 0.0), *((kind, 0.01) for kind in sorted(KINDS))]
)
def test_squared_loss_is_solved_as_by_dense_least_squares(kind, decay):
    p = problem(kind, F.mse_loss, count=100, chunk=50, weight_decay=decay)
    begun = p.copy()
    solver = BlockSweep(steps=400, residual=1e-12, damping=0.0)
    for block in p.blocks:
        p.put(begun)
        with p.solving():
            expected, best = least_squares(p, block)
        result = replace(solver, layers=(block.layer,)).solve(p)
        assert result.objective == pytest.approx(best, rel=1e-8)
        found = flat(p.copy(block.names), block.names)
        assert torch.allclose(found, expected, atol=1e-8 * float(expected.norm()))
        others = [n for n in begun if n not in block.names]
        assert all(torch.equal(p.weights[n], begun[n]) for n in others)


@pytest.mark.parametrize("layer", ["0", "1", "4", "8"])
def test_cross_entropy_is_solved_as_by_a_long_run_of_another_method(layer):
    p = problem("batch norm", count=60, chunk=60, weight_decay=1e-2)
    begun = p.copy()
    solver = BlockSweep(
        sweeps=30, steps=200, residual=1e-6, damping=0.0, layers=(layer,), tolerance=1e-7
    )
    found = solver.solve(p)
    assert found.status is Status.CONVERGED
    p.put(begun)
    for name, w in p.model.named_parameters():
        w.requires_grad_(name.startswith(f"{layer}."))
    alone = HeldLoss(p.model, p.parts, weight_decay=1e-2)
    other = LBFGS(steps=500, tolerance=1e-9).solve(alone)
    fixed = 0.005 * sum(
        float(w.detach().square().sum()) for n, w in p.weights.items() if n not in alone.weights
    )
    assert found.objective == pytest.approx(other.objective + fixed, rel=1e-9)


def test_a_wide_problem_is_named_with_its_damping():
    result = BlockSweep(damping=0.01).solve(problem("fully connected", count=10))
    (note,) = [n for n in result.notes if n.startswith("1:")]
    assert "231 weights for 30 outputs" in note
    assert "damped by" in note
    decayed = BlockSweep(damping=0.01).solve(problem("fully connected", count=10, weight_decay=0.1))
    assert not decayed.notes


def test_weights_of_no_influence_are_named_and_stay():
    p = problem("fully connected")
    with torch.no_grad():
        p.model[1].bias[2] = -100.0
    part = p.parts[0]
    p = HeldLoss.of(p.model, ts.record(p.model, part.x), part.x, part.y, chunk=99)
    before = p.copy()
    result = BlockSweep(layers=("1",)).solve(p)
    assert "33 of 231 weights have no influence" not in result.notes[0]  # 15 examples: wide as well
    x = torch.randn(100, 2, 4, 4, dtype=torch.float64)
    p = HeldLoss.of(p.model, ts.record(p.model, x), x, torch.arange(100) % 3)
    result = BlockSweep(layers=("1",)).solve(p)
    assert "33 of 231 weights have no influence" in result.notes[0]
    assert torch.equal(p.model[1].weight[2], before["1.weight"][2])


def test_a_singular_problem_is_named():
    """Two inputs that are the same: one direction of the weights has no curvature."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2).double().eval()
    x = torch.randn(30, 3, dtype=torch.float64)
    x[:, 2] = 1e-9 * torch.randn(30, dtype=torch.float64) + x[:, 1]
    y = torch.randn(30, 2, dtype=torch.float64)
    wrapped = nn.Sequential(model, nn.ReLU(), nn.Linear(2, 2)).double().eval()
    p = HeldLoss.of(wrapped, ts.record(wrapped, x), x, y, loss=F.mse_loss)
    result = BlockSweep(layers=("0",), steps=60, residual=1e-15, damping=0.0).solve(p)
    assert "singular to rounding" in result.notes[0]
    assert "not damped" in result.notes[0]


def test_status_and_optimality():
    p = problem("fully connected", F.mse_loss)
    short = BlockSweep().solve(p)
    assert short.status is Status.LIMIT
    assert "sweeps" in short.advice
    assert short.optimality_start > 0
    assert short.message.startswith("limit (objective")
    long = BlockSweep(sweeps=2, steps=50, residual=1e-9, damping=0.0, layers=("3",)).solve(
        problem("without bias", F.mse_loss, weight_decay=0.1)
    )
    assert long.status is Status.CONVERGED
    assert long.relative <= 1e-6
    with torch.no_grad():
        p.model[1].weight[0, 0] = float("nan")
    assert BlockSweep().solve(p).status is Status.DIVERGED


def test_it_stalls_where_rounding_is_all_that_is_left():
    p = problem("without bias", F.mse_loss, weight_decay=0.1)
    solver = BlockSweep(sweeps=9, steps=50, residual=1e-12, tolerance=0.0, layers=("3",))
    result = solver.solve(p)
    assert result.status is Status.STALLED
    assert result.relative < 1e-6


class Interrupted:
    """A loss that stops the solver at its nth call."""

    def __init__(self, loss, calls: int) -> None:
        self.loss, self.calls = loss, calls

    def __call__(self, o, y):
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        return self.loss(o, y)


@pytest.mark.parametrize(
    ("solver", "calls"), [(BlockSweep(), 100), (LBFGS(), 30), (AugmentedLagrangian(), 60)]
)
def test_an_interrupted_solver_leaves_weights_no_worse(solver, calls):
    p = problem("batch norm")
    start = objective(p)
    p.model.train()
    with pytest.raises(KeyboardInterrupt):
        solver.solve(HeldLoss(p.model, p.parts, loss=Interrupted(p.loss, calls)))
    assert p.model.training
    p.model.eval()
    assert objective(p) < start


def test_in_single_precision_it_does_not_rise_either():
    p = problem("batch norm")
    model, parts = p.model.float(), [q._replace(x=q.x.float()) for q in p.parts]
    result = BlockSweep(sweeps=2, steps=30).solve(HeldLoss(model, parts))
    values = [point.objective for point in result.history]
    assert values == sorted(values, reverse=True)
    assert HeldLoss(model, parts).value() == pytest.approx(values[-1], rel=1e-6)
    assert values[-1] < 0.5 * values[0]


@pytest.mark.parametrize(
    "setting",
    [{"sweeps": 0}, {"steps": 0}, {"damping": -1.0}, {"residual": -1.0}, {"tolerance": -1.0}],
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(SettingsError, match=next(iter(setting))):
        BlockSweep(**setting)


def test_an_unknown_layer_is_refused():
    with pytest.raises(SettingsError, match="layer '7' has no weights"):
        BlockSweep(layers=("7",)).solve(problem("without bias"))
