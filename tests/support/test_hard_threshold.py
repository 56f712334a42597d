from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given
from torch import Tensor, nn

import twostroke as ts
from twostroke.errors import SettingsError
from twostroke.support import HardThreshold, hard_threshold
from twostroke.support.hard_threshold import as_channels

from .helpers import drawn, normal


def slowly(q: Tensor, beta: Any) -> Tensor:
    """Eq. 9, one unit at a time."""
    z = torch.zeros_like(q)
    for place in torch.cartesian_prod(*[torch.arange(n) for n in q.shape]).tolist():
        limit = float(beta[place[1]]) if isinstance(beta, list) else beta
        if float(q[tuple(place)]) > limit:
            z[tuple(place)] = q[tuple(place)]
    return z


@pytest.mark.parametrize("beta", [0.0, 0.4, -0.4, [0.1, -0.5, 0.9]])
def test_eq_9(beta: Any) -> None:
    q = normal(2, 3, 2, 2)
    given = torch.tensor(beta, dtype=torch.float64) if isinstance(beta, list) else beta
    assert torch.equal(hard_threshold(q, given), slowly(q, beta))
    assert torch.equal(HardThreshold(given)(q), slowly(q, beta))
    assert torch.equal(HardThreshold(given, learn=True)(q), slowly(q, beta))


def test_at_the_threshold_it_is_off() -> None:
    q = torch.tensor([[0.5, math.nextafter(0.5, 1)]], dtype=torch.float64)
    for beta in (0.5, torch.tensor(0.5, dtype=torch.float64)):
        assert hard_threshold(q, beta).tolist() == [[0.0, math.nextafter(0.5, 1)]]


def test_with_zero_it_is_relu() -> None:
    q = normal(3, 4)
    assert torch.equal(hard_threshold(q), torch.relu(q))
    assert torch.equal(HardThreshold()(q), torch.relu(q))


@pytest.mark.parametrize("learn", [False, True])
def test_the_gradient_towards_q_is_the_exact_one(learn: bool) -> None:
    q = normal(4, 3, 5).requires_grad_()
    beta = torch.tensor([0.2, -0.3, 0.6], dtype=torch.float64)
    act = HardThreshold(beta, learn=learn)
    weights = normal(4, 3, 5, seed=1)
    (got,) = torch.autograd.grad((act(q) * weights).sum(), q)
    assert torch.equal(got, torch.where(q > beta[:, None], weights, 0.0))


def test_the_gradient_at_the_threshold_is_zero() -> None:
    for beta in (0.5, torch.tensor(0.5, dtype=torch.float64)):
        q = torch.tensor([[0.5, 0.6]], dtype=torch.float64, requires_grad=True)
        hard_threshold(q, beta).sum().backward()
        assert q.grad is not None
        assert q.grad.tolist() == [[0.0, 1.0]]


def ramp(q: Tensor, beta: Tensor, width: float) -> Tensor:
    """The documented surrogate: q times a ramp from 0 at beta - width to 1 at beta + width."""
    return q * ((q - beta + width) / (2 * width)).clamp(0, 1)


@drawn
@given(
    st.floats(-2, 2),
    st.floats(-2, 2),
    st.sampled_from([0.1, 0.5, 1.0, 3.0]),
    st.floats(-2, 2),
)
def test_the_surrogate_is_the_slope_of_its_ramp(
    q: float, beta: float, width: float, weight: float
) -> None:
    h = 1e-6
    assume(abs(abs(q - beta) - width) > 1e-4)  # at the ramp's corners differences tell nothing
    values = torch.tensor([[q]], dtype=torch.float64)
    b = torch.tensor([beta], dtype=torch.float64, requires_grad=True)
    (got,) = torch.autograd.grad((weight * hard_threshold(values, b, width)).sum(), b)
    slope = weight * (ramp(values, b + h, width) - ramp(values, b - h, width)) / (2 * h)
    assert float(got) == pytest.approx(float(slope.detach()), abs=1e-7)


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 6), (2, 3, 4, 4), (2, 3, 2, 2, 2)])
@pytest.mark.parametrize("channels", [False, True])
def test_the_surrogate_of_a_batch_is_the_sum(shape: tuple[int, ...], channels: bool) -> None:
    q, weights = normal(*shape), normal(*shape, seed=1)
    beta = torch.tensor([0.2, -0.1, 0.4] if channels else 0.3, dtype=torch.float64)
    act = HardThreshold(beta, learn=True, width=0.6)
    (act(q) * weights).sum().backward()
    limits = beta.view(-1, *[1] * (len(shape) - 2)) if channels else beta
    near = (q - limits).abs() < 0.6
    terms = torch.where(near, -weights * q / 1.2, 0.0)
    expected = terms.transpose(0, 1).flatten(1).sum(1) if channels else terms.sum()
    assert act.beta.grad is not None
    assert act.beta.grad.shape == beta.shape
    torch.testing.assert_close(act.beta.grad, expected)


def test_numbers_and_buffers_want_no_gradient() -> None:
    q = normal(3, 4).requires_grad_()
    act = HardThreshold(torch.zeros(4))
    act(q).sum().backward()
    assert act.beta.grad is None
    assert [n for n, _ in act.named_parameters()] == []
    assert [n for n, _ in act.named_buffers()] == ["beta"]
    assert [n for n, _ in HardThreshold(learn=True).named_parameters()] == ["beta"]


def test_a_learned_threshold_learns() -> None:
    # the right threshold keeps what is above 1 and drops what is below
    torch.manual_seed(0)
    q = torch.rand(512, 1) * 2
    target = torch.where(q > 1, q, 0.0)
    act = HardThreshold(0.3, learn=True, width=0.5)
    optimiser = torch.optim.SGD(act.parameters(), lr=0.2)
    for _ in range(200):
        optimiser.zero_grad()
        (act(q) - target).square().mean().backward()
        optimiser.step()
    assert abs(float(act.beta.detach()) - 1) < 0.1


def test_what_is_handed_in_is_copied_and_keeps_its_precision() -> None:
    beta = torch.tensor([0.1, 0.2], dtype=torch.float64)
    for learn in (False, True):
        act = HardThreshold(beta, learn=learn)
        assert act.beta.dtype == torch.float64
        assert torch.equal(act.beta, beta)
        with torch.no_grad():
            act.beta.zero_()
        assert beta.tolist() == [0.1, 0.2]
    assert HardThreshold(0.1).beta.dtype == torch.float32
    assert HardThreshold(torch.tensor([1, 2])).beta.dtype == torch.float32
    assert HardThreshold(3).beta.item() == 3


def test_state_is_saved_and_loaded() -> None:
    one, two = HardThreshold(torch.tensor([0.5, 1.0]), learn=True), HardThreshold(torch.zeros(2))
    two.load_state_dict(one.state_dict())
    assert two.beta.tolist() == [0.5, 1.0]


@pytest.mark.parametrize("width", [0.0, -1.0, math.nan])
def test_a_width_is_positive(width: float) -> None:
    with pytest.raises(SettingsError, match="width must be positive"):
        HardThreshold(width=width)


def test_a_threshold_is_a_number_or_one_for_each_channel() -> None:
    with pytest.raises(SettingsError, match=r"\(2, 2\)"):
        HardThreshold(torch.zeros(2, 2))
    with pytest.raises(SettingsError, match=r"3 entries meets a pre-activation of shape \(2, 4\)"):
        HardThreshold(torch.zeros(3))(torch.zeros(2, 4))
    with pytest.raises(SettingsError, match="3 entries"):
        HardThreshold(torch.zeros(3))(torch.zeros(3))


def test_one_entry_serves_any_number_of_channels() -> None:
    q = normal(2, 5)
    one = torch.tensor([0.3], dtype=torch.float64)
    assert torch.equal(HardThreshold(one)(q), hard_threshold(q, 0.3))
    assert as_channels(0.3, q) == 0.3
    assert as_channels(one, q) is one
    assert as_channels(torch.zeros(5), normal(2, 5, 3, 3)).shape == (5, 1, 1)


def test_it_reads_well() -> None:
    assert repr(HardThreshold(0.25)) == "HardThreshold(beta=0.25, learn=False)"
    assert "per channel, learn=True" in repr(HardThreshold(torch.zeros(2), learn=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.half])
def test_in_lower_precision(dtype: torch.dtype) -> None:
    q = normal(4, 3, 5).to(dtype)
    for act in (HardThreshold(0.25), HardThreshold(torch.tensor([0.0, 0.5, -0.5]), learn=True)):
        z = act(q)
        assert z.dtype == dtype
        limits = act.beta.detach().view(-1, 1) if act.beta.ndim else act.beta
        assert torch.equal(z, torch.where(q > limits.to(dtype), q, torch.zeros_like(q)))
        if isinstance(act.beta, nn.Parameter):
            z.sum().backward()
            assert act.beta.grad is not None
            assert act.beta.grad.dtype == torch.float32


def test_under_autocast() -> None:
    net = nn.Sequential(nn.Linear(4, 3), HardThreshold(torch.tensor([0.1, 0.2, 0.3]), learn=True))
    with torch.autocast("cpu", torch.bfloat16):
        z = net(torch.randn(5, 4))
    z.float().sum().backward()
    assert z.dtype == torch.bfloat16


def test_the_function_is_a_site_of_whoever_calls_it() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return hard_threshold(x, 0.2) + hard_threshold(x, torch.full((3,), 0.1))

    sites = ts.sites(Net(), normal(2, 3))
    assert [(s.key, s.kind) for s in sites] == [("#0", "threshold"), ("#1", "threshold")]
