import pytest
import torch
import torch.nn.functional as F

from tests.solvers.networks import KINDS, objective, problem
from twostroke.errors import SettingsError
from twostroke.outcome import Status
from twostroke.solvers import LBFGS


@pytest.mark.parametrize("loss", [F.cross_entropy, F.mse_loss])
@pytest.mark.parametrize("kind", KINDS)
def test_the_held_objective_never_rises(kind, loss):
    p = problem(kind, loss, weight_decay=0.01)
    start = objective(p)
    result = LBFGS(steps=10).solve(p)
    values = [point.objective for point in result.history]
    assert values[0] == pytest.approx(start, rel=1e-12)
    assert values == sorted(values, reverse=True)
    assert result.objective == pytest.approx(objective(p), rel=1e-11)
    assert result.objective < 0.95 * start
    assert result.passes == len(values)
    assert all(w.grad is None for w in p.model.parameters())


def test_status():
    assert LBFGS(steps=2).solve(problem("residual")).status is Status.LIMIT
    result = LBFGS(steps=500).solve(problem("without bias", F.mse_loss, weight_decay=0.1))
    assert result.status is Status.CONVERGED
    assert result.relative <= 1e-6
    p = problem("residual")
    with torch.no_grad():
        p.model[0].bias[0] = float("inf")
    before = p.copy()
    assert LBFGS().solve(p).status is Status.DIVERGED
    assert all(torch.equal(p.weights[n], w) for n, w in before.items())


def test_settings_out_of_range_are_refused():
    with pytest.raises(SettingsError, match="steps and history"):
        LBFGS(steps=0)
    with pytest.raises(SettingsError, match="tolerance"):
        LBFGS(tolerance=-1)
