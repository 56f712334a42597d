import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from twostroke.solvers.conjugate import conjugate_gradients


def spd(n: int, rank: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    A = torch.randn(rank, n, generator=draw, dtype=torch.float64)
    return A.T @ A


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 12), extra=st.integers(1, 8), seed=st.integers(0, 99))
def test_it_solves_what_a_dense_solver_solves(n, extra, seed):
    H = spd(n, n + extra, seed)
    b = torch.ones(n, dtype=torch.float64)
    found = conjugate_gradients(lambda u: H @ u, b, steps=20 * n, residual=1e-13)
    expected = torch.linalg.solve(H, b)
    assert torch.allclose(found.x, expected, rtol=1e-7, atol=1e-9 * float(expected.norm()))
    assert not found.flat


def test_of_a_singular_problem_it_finds_the_solution_of_least_norm():
    H = spd(9, 4, 1)
    b = H @ torch.ones(9, dtype=torch.float64)
    found = conjugate_gradients(lambda u: H @ u, b, steps=30, residual=1e-12)
    assert torch.allclose(found.x, torch.linalg.pinv(H, rtol=1e-10) @ b, rtol=1e-8)


def test_curvatures_that_were_met_are_eigenvalues_damping_left_out():
    H = spd(6, 9, 2)
    b = torch.ones(6, dtype=torch.float64)
    found = conjugate_gradients(lambda u: H @ u, b, steps=6, residual=0.0, damping=0.1)
    values = torch.linalg.eigvalsh(H)
    assert found.lowest == pytest.approx(float(values[0]), rel=1e-6)
    assert found.highest == pytest.approx(float(values[-1]), rel=1e-6)
    absolute = 0.1 * float(b @ H @ b / (b @ b))
    assert found.damping == pytest.approx(absolute)
    expected = torch.linalg.solve(H + absolute * torch.eye(6, dtype=torch.float64), b)
    assert torch.allclose(found.x, expected)


def test_steps_add_up_to_the_solution():
    H = spd(5, 8, 3)
    last: list[torch.Tensor] = []
    total = torch.zeros(5, dtype=torch.float64)

    def product(u):
        last[:] = [u.clone()]
        return H @ u

    found = conjugate_gradients(
        product, torch.ones(5).double(), steps=4, moved=lambda a: total.add_(last[0], alpha=a)
    )
    assert torch.allclose(total, found.x, rtol=1e-12)
    assert found.steps == 4


@pytest.mark.parametrize("sign", [0.0, -1.0])
def test_a_direction_without_curvature_ends_it(sign):
    found = conjugate_gradients(lambda u: sign * u, torch.ones(3).double(), steps=5)
    assert found.flat
    assert found.steps == 0
    assert not found.x.any()


def test_nothing_to_solve():
    found = conjugate_gradients(lambda u: u, torch.zeros(3).double(), steps=5)
    assert (found.steps, found.flat) == (0, False)
