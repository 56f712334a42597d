"""Eq. 29 and restricted isometry constants."""

import pytest
import torch

from twostroke import record
from twostroke.errors import SettingsError, TooLargeError
from twostroke.theory import (
    DenseOperator,
    gaussian_operator,
    lifted_operator,
    path_operator,
    rip,
)
from twostroke.theory.restricted import restricted

from .networks import build, linear


def test_spectrum_and_the_largest_epsilon():
    found = rip(gaussian_operator(30000, 5, 4), starts=4)
    U = gaussian_operator(30000, 5, 4).matrix
    values = torch.linalg.eigvalsh(U.T @ U / 30000)
    torch.testing.assert_close(found.spectrum, values, rtol=1e-10, atol=1e-10)
    low, high = float(values[0]), float(values[-1])
    assert found.epsilon == pytest.approx(min(low - 0.9, 1.1 - high))
    assert 0 < found.epsilon < 0.1
    assert found.satisfies_theorem
    assert found.sharp is True


def test_exact_isometry():
    m = 12
    Q = torch.linalg.qr(torch.randn(m, 12, dtype=torch.float64))[0] * m**0.5
    found = rip(DenseOperator(Q, blocks=(1, 3, 4)), starts=2)
    assert found.epsilon == pytest.approx(0.1)
    for entry in found.restricted:
        assert entry.delta_scaled_bound < 1e-12


@pytest.mark.parametrize(
    ("rows", "words"), [(10, "10 rows cannot make 12"), (100, "runs from"), (12, "runs from")]
)
def test_why_not(rows, words):
    found = rip(gaussian_operator(rows, 3, 4))
    assert found.epsilon is None
    assert words in found.reason


def test_lifted_operator_fails_by_its_zero_columns():
    model, x, support = build("4-3-2", batch=500)
    found = rip(lifted_operator(model, support, x), starts=4)
    assert found.zero_columns == 48
    assert "48 of 72 columns are zero" in found.reason
    paths = rip(path_operator(model, support, x), starts=4)
    assert paths.zero_columns == 0
    assert paths.spectrum[0] > 0
    assert paths.epsilon is None
    assert paths.sharp is None


def test_relu_supports_share_examples_so_that_no_data_satisfies_eq_29():
    """Hidden units with orthogonal filters are on together for a quarter of all examples.

    Along a direction that no filter sees, the path operator's Gram matrix is therefore 1/4 between
    units and 1/2 within one, whose eigenvalues are 1/4 and 1/4 + h/4: a ratio of h + 1, where eq. 29
    allows 11/9.
    """
    model = linear(6, 3, 1).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(6, dtype=torch.float64)[:3])
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(20000, 6, generator=draw, dtype=torch.float64)
    found = rip(path_operator(model, record(model, x), x), ranks=())
    assert float(found.spectrum[-1] / found.spectrum[0]) > 0.95 * (3 + 1)
    assert "no multiple of U would do" in found.reason


def test_rank_restricts_nothing_in_path_form():
    """Of two fully connected layers: an eigenvector for a single output has blocks of rank one."""
    model, x, support = build("4-3-2", batch=100)
    found = rip(path_operator(model, support, x), ranks=(1,), starts=8)
    (entry,) = found.restricted
    assert entry.low == pytest.approx(float(found.spectrum[0]))
    assert entry.high == pytest.approx(float(found.spectrum[-1]))


@pytest.mark.parametrize("rows", [25, 60, 400])
@pytest.mark.parametrize("rank", [1, 2])
def test_bounds_enclose_and_no_sample_escapes(rows, rank):
    operator = gaussian_operator(rows, 5, 4, seed=rank)
    G = operator.matrix.T @ operator.matrix / rows
    found = restricted(G, (1, 5, 4), rank, starts=16)
    assert found.low_bound <= found.low + 1e-12
    assert found.high <= found.high_bound + 1e-12
    draw = torch.Generator().manual_seed(0)
    X = torch.randn(20000, 5, rank, generator=draw, dtype=torch.float64)
    Y = torch.randn(20000, 4, rank, generator=draw, dtype=torch.float64)
    V = (X @ Y.mT).flatten(1)
    V = V / V.norm(dim=1, keepdim=True)
    values = (V @ G * V).sum(1)
    assert found.low <= float(values.min()) + 1e-12
    assert found.high >= float(values.max()) - 1e-12


def test_search_finds_what_is_known():
    """Measuring each entry with a gain: the extremes over rank one are the extreme gains."""
    gains = torch.linspace(1, 3, 12, dtype=torch.float64)
    found = restricted(gains.diag() ** 2, (1, 3, 4), 1, starts=32)
    assert found.low == pytest.approx(1)
    assert found.high == pytest.approx(9)
    full = restricted(gains.diag() ** 2, (3, 2, 2), 2, starts=8)
    assert (full.low, full.high) == (pytest.approx(full.low_bound), pytest.approx(full.high_bound))


def test_partial_transpose_sharpens_the_bound():
    """The antisymmetric part of V is unseen: null space, but no rank-one matrix in it."""
    eye = torch.eye(4, dtype=torch.float64)
    swap = eye.view(2, 2, 2, 2).transpose(2, 3).reshape(4, 4)
    found = restricted((eye + swap) / 2, (1, 2, 2), 1, starts=8)
    assert found.low == pytest.approx(0.5)
    assert found.low_bound == pytest.approx(0.5)
    assert found.high_bound == pytest.approx(1)


def test_refusals():
    with pytest.raises(TooLargeError, match="Gram matrix of 20 columns"):
        rip(gaussian_operator(10, 5, 4), limit_bytes=100)
    with pytest.raises(SettingsError, match="rows and columns"):
        rip(DenseOperator(torch.zeros(0, 4)))
    assert rip(DenseOperator(torch.randn(5, 4))).restricted == ()
