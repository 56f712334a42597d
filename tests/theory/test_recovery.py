"""P1–P3 on problems with known solutions."""

import pytest
import torch

from twostroke import record
from twostroke.errors import SettingsError
from twostroke.outcome import Status
from twostroke.theory import (
    DenseOperator,
    Problem,
    gaussian_operator,
    lifted_operator,
    lifted_weights,
    path_operator,
    plain_network,
    recover,
    unlift_blocks,
    weight_vectors,
)
from twostroke.theory.problem import Factors
from twostroke.theory.recovery import start_factors


def sensing(p, q, rank, oversampling, seed=0):
    draw = torch.Generator().manual_seed(seed)
    X, Y = (torch.randn(1, n, rank, generator=draw, dtype=torch.float64) for n in (p, q))
    m = round(oversampling * rank * (p + q - rank))
    operator = gaussian_operator(m, p, q, seed=seed)
    truth = X @ Y.mT
    return Problem(operator, operator.matvec(truth.reshape(-1)), rank), truth


def network(n=80, width=3):
    teacher = plain_network(width, 2, inputs=5, outputs=3)
    x = torch.randn(n, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return teacher, x, record(teacher, x)


@pytest.mark.parametrize("start", ["spectral", "random"])
@pytest.mark.parametrize("rank", [1, 2])
def test_sensing(rank, start):
    problem, truth = sensing(10, 12, rank, 4)
    found = recover(problem, start)
    assert found.status is Status.CONVERGED, found.message
    assert found.error(truth) < 1e-13
    assert found.missing_rank == 0
    X, Y = found.factors
    torch.testing.assert_close(X.mT @ X, Y.mT @ Y, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rank", [1, 3])
def test_published_size(rank):
    """50 × 60, 1.5 measurements a degree of freedom: published, 20 iterations of Gauss–Newton."""
    problem, truth = sensing(50, 60, rank, 1.5)
    found = recover(problem)
    assert found.steps <= 20
    assert found.error(truth) < 1e-13


@pytest.mark.parametrize("start", ["spectral", "random"])
def test_two_layers_in_path_form(start):
    teacher, x, support = network()
    paths = path_operator(teacher, support, x)
    truth = paths.lift(*weight_vectors(teacher))
    problem = Problem(paths, paths.matvec(truth))
    found = recover(problem, start, seed=3)
    assert found.status is Status.CONVERGED, found.message
    assert found.error(truth) < 1e-11
    X, Y, _ = unlift_blocks(found.V)
    one, two = paths.factors(X, Y)
    torch.testing.assert_close(paths.lift(one, two), truth, rtol=1e-8, atol=1e-10)


def test_p3_as_written_is_not_unique():
    """The lifted operator's zero columns leave the entries of V unseen that belong to no path."""
    teacher, x, support = network()
    U = lifted_operator(teacher, support, x)
    problem = Problem(U, U.matvec(lifted_weights(teacher)))
    found = recover(problem, "random", max_steps=500)
    assert found.status is Status.NOT_UNIQUE, found.message
    # rank one as a whole sees one scale, each hidden unit has one of its own: h - 1 unseen
    assert found.missing_rank == 2
    assert "directions unseen" in found.message


def test_spectral_start_of_p3_as_written_is_a_saddle():
    """Uᵀy is block diagonal, so that its leading singular vectors leave all hidden units but one at 0."""
    teacher, x, support = network()
    U = lifted_operator(teacher, support, x)
    problem = Problem(U, U.matvec(lifted_weights(teacher)))
    X, _ = start_factors(problem, "spectral")
    alive = X[0, :, 0].view(5, 3).abs().amax(0) > 1e-10
    assert int(alive.sum()) == 1
    assert not recover(problem).ok


def test_a_dead_unit_is_named():
    teacher, x, _ = network()
    with torch.no_grad():
        teacher[0].weight[0] = 0
    support = record(teacher, x)
    paths = path_operator(teacher, support, x)
    truth = paths.lift(*weight_vectors(teacher))
    found = recover(Problem(paths, paths.matvec(truth)))
    assert found.status is Status.NOT_UNIQUE
    assert found.missing_rank == 5 + 3 - 1
    assert "off" in found.message


def test_ways_to_fail_have_names_and_advice():
    problem, _ = sensing(8, 9, 1, 3)
    assert recover(problem, max_steps=1).status is Status.LIMIT
    noisy = Problem(problem.operator, problem.y + torch.randn_like(problem.y))
    found = recover(noisy)
    assert found.status is Status.STALLED
    assert "noise" in found.message
    few, _ = sensing(8, 9, 1, 0.5)
    assert recover(few).status is Status.NOT_UNIQUE
    contradiction = torch.ones(30, 72, dtype=torch.float64)
    y = torch.arange(30, dtype=torch.float64)
    found = recover(Problem(DenseOperator(contradiction, blocks=(1, 8, 9)), y))
    assert found.status is Status.STALLED
    huge = Problem(problem.operator, problem.y * 1e300)
    X, Y = start_factors(problem, "random")
    assert recover(huge, Factors(X * 1e200, Y * 1e200)).status is Status.DIVERGED


def test_zero_measurements():
    operator = gaussian_operator(40, 4, 5)
    assert recover(Problem(operator, torch.zeros(40, dtype=torch.float64))).residual == 0


def test_history_and_determinism():
    problem, _ = sensing(8, 9, 1, 3)
    one, two = (recover(problem, "random", seed=5) for _ in range(2))
    assert one.residuals == two.residuals
    assert list(one.residuals[:-1]) == sorted(one.residuals[:-1], reverse=True)
    assert len(one.residuals) == one.steps + 1
    assert one.residual == pytest.approx(problem.residual(one.V))
    given = start_factors(problem, "random", seed=9)
    assert recover(problem, given).residuals[0] == pytest.approx(problem.residual(given.product))


def test_jacobian_is_the_derivative():
    problem, _ = sensing(4, 5, 2, 3)
    factors = start_factors(problem, "random")

    def image(X, Y):
        return problem.operator.matvec((X @ Y.mT).reshape(-1))

    by_x, by_y = torch.autograd.functional.jacobian(image, tuple(factors))
    J = torch.cat([by_x.flatten(1), by_y.flatten(1)], 1)
    torch.testing.assert_close(problem.jacobian(factors), J, rtol=1e-10, atol=1e-12)
    step = problem.split(torch.arange(18, dtype=torch.float64))
    torch.testing.assert_close(
        torch.cat([step.X.reshape(-1), step.Y.reshape(-1)]), torch.arange(18, dtype=torch.float64)
    )


def test_refusals():
    operator = gaussian_operator(10, 3, 4)
    y = torch.zeros(10, dtype=torch.float64)
    with pytest.raises(SettingsError, match="stack of matrices"):
        Problem(DenseOperator(torch.zeros(10, 12)), y)
    with pytest.raises(SettingsError, match="10 measurements"):
        Problem(operator, y[1:])
    with pytest.raises(SettingsError, match="undefined"):
        Problem(operator, y * float("nan"))
    with pytest.raises(SettingsError, match="rank is between 1 and 3"):
        Problem(operator, y, 4)
    with pytest.raises(SettingsError, match="'spectral', 'random'"):
        recover(Problem(operator, y), "zero")
    with pytest.raises(SettingsError, match="start is X"):
        recover(Problem(operator, y), Factors(y, y))
