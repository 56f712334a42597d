"""Half-spaces from bits: the optimum of a convex problem, its certificate, and what it finds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twostroke.errors import SettingsError
from twostroke.outcome import Status
from twostroke.theory import half_spaces
from twostroke.theory.half_spaces import objective


def bits(measurements, fan_in, units, seed=0):
    """Gaussian inputs, half-spaces through the origin, and their bits."""
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(measurements, fan_in, generator=draw, dtype=torch.float64)
    w = torch.randn(units, fan_in, generator=draw, dtype=torch.float64)
    return z, w, z @ w.mT > 0


def optimum(z, signs, ridge):
    """One unit at a time, gradients by autograd, by a general optimiser: slow, and obviously right."""
    found = []
    for s in signs.mT:
        w = torch.zeros(1, z.shape[1], dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [w], max_iter=4000, max_eval=8000, tolerance_grad=1e-13, tolerance_change=0,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure(s=s, w=w, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (1 + (-s * (z @ w[0])).exp()).log().mean() + ridge / 2 * w.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        found.append(w.detach()[0])
    return torch.stack(found)


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 60), st.integers(1, 5), st.integers(1, 4), st.integers(0, 1000))
def test_the_direction_is_that_of_the_optimum(measurements, fan_in, units, seed):
    z, _, on = bits(measurements, fan_in, units, seed)
    on = on ^ (torch.rand(on.shape, generator=torch.Generator().manual_seed(seed)) < 0.1)
    found = half_spaces(z, on, ridge=1e-2, tolerance=1e-9)
    kept = found.determined
    assert kept.tolist() == [0 < int(c.sum()) < measurements for c in on.mT]
    if not kept.any():
        assert found.status is Status.NOT_UNIQUE
        return
    assert found.status is Status.CONVERGED
    scaled = z / z.square().sum(1).mean().sqrt()
    w = optimum(scaled, 2.0 * on[:, kept] - 1, 1e-2)
    w = w / w.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found.weights[kept], w, rtol=1e-6, atol=1e-7)
    margins = ((2.0 * on[:, kept] - 1) * (scaled @ w.mT)).amin(0)
    torch.testing.assert_close(found.margins[kept], margins, rtol=1e-5, atol=1e-6)


def test_the_certificate_bounds_the_distance_to_the_optimum():
    z, _, on = bits(80, 6, 3)
    scaled = z / z.square().sum(1).mean().sqrt()
    best = optimum(scaled, 2.0 * on - 1, 1e-3)
    for steps in (2, 3, 4, 6):
        found = half_spaces(z, on, ridge=1e-3, tolerance=0, max_steps=steps)
        assert found.steps == steps
        direction = best / best.norm(dim=1, keepdim=True)
        sine = (found.weights - direction * (found.weights * direction).sum(1, keepdim=True)).norm(
            dim=1
        )
        assert (sine <= found.gaps + 1e-9).all()


def test_the_objective_is_the_logistic_loss():
    z, w, on = bits(30, 4, 2)
    s = 2.0 * on - 1
    slow = (1 + (-s * (z @ w.mT)).exp()).log().mean(0) + 0.05 * w.square().sum(1)
    torch.testing.assert_close(objective(w, z, s, 0.1), slow, rtol=1e-12, atol=0)


def test_the_error_falls_like_one_over_the_measurements():
    errors = []
    for measurements in (100, 1000, 10000):
        z, w, on = bits(measurements, 10, 8)
        found = half_spaces(z, on)
        assert found.status is Status.CONVERGED
        assert found.per_weight == measurements / 10
        cosine = torch.cosine_similarity(found.weights, w, dim=1)
        errors.append(float(cosine.clamp(-1, 1).acos().mean()))
    assert errors[1] < errors[0] / 5
    assert errors[2] < errors[1] / 5
    assert errors[2] < 0.01


def test_scale_is_lost():
    z, w, on = bits(500, 5, 2)
    same = z @ (torch.tensor([[3.0], [0.2]], dtype=torch.float64) * w).mT > 0
    assert torch.equal(on, same)
    found = half_spaces(100 * z, on)
    torch.testing.assert_close(found.weights, half_spaces(z, on).weights, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.weights.norm(dim=1), torch.ones(2, dtype=torch.float64))


def test_dead_units_and_units_always_on_are_named():
    z, _, on = bits(50, 4, 4)
    on[:, 1], on[:, 2] = False, True
    found = half_spaces(z, on)
    assert found.status is Status.CONVERGED
    assert found.notes == [
        "unit 1 is off at every place: not determined",
        "unit 2 is on at every place: not determined",
    ]
    assert (found.weights[1:3] == 0).all()
    alone = half_spaces(z, on[:, 1:3])
    assert alone.status is Status.NOT_UNIQUE
    assert "other images" in alone.message


def test_inputs_of_zeros_measure_nothing():
    z, _, on = bits(60, 4, 2)
    more = torch.cat([z, torch.zeros(40, 4, dtype=torch.float64)])
    off = torch.cat([on, torch.zeros(40, 2, dtype=torch.bool)])
    found = half_spaces(more, off)
    torch.testing.assert_close(found.weights, half_spaces(z, on).weights, rtol=1e-9, atol=1e-12)
    assert half_spaces(more[60:], off[60:]).status is Status.NOT_UNIQUE


def test_too_few_steps_are_told():
    z, _, _ = bits(200, 5, 1)
    noisy = torch.rand(200, 3, generator=torch.Generator().manual_seed(1)) < 0.5
    found = half_spaces(z, noisy, max_steps=1)
    assert found.status is Status.LIMIT
    assert "max_steps" in found.message


@pytest.mark.parametrize(
    ("z", "on", "options", "words"),
    [
        (torch.zeros(3, 2), torch.zeros(4, 1), {}, "measurements, units"),
        (torch.full((3, 2), torch.nan), torch.zeros(3, 1), {}, "undefined"),
        (torch.ones(3, 2), torch.zeros(3, 1), {"ridge": 0.0}, "infinity"),
    ],
)
def test_refusals(z, on, options, words):
    with pytest.raises(SettingsError, match=words):
        half_spaces(z, on, **options)
