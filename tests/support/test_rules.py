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
from twostroke.support import BatchEnergy, Energy, MajorityVote, PositiveThreshold, Rule
from twostroke.support.rules import mask_of

from .helpers import drawn, images, mlp, normal, twice

prices = st.floats(0.0, 4.0)
values = st.floats(-3.0, 3.0)


def best(candidates: Tensor, objective: Tensor) -> float:
    """Where the objective is least."""
    return float(candidates[objective.argmin()])


def apart(a: float, b: float) -> None:
    """Assume that two numbers are no tie."""
    assume(abs(a - b) > 1e-2)


def one(rule: Rule, q: float) -> bool:
    return bool(rule(torch.tensor([[q]], dtype=torch.float64)))


# -- the closed forms against brute force ----------------------------------------------------------

FINE = torch.linspace(0, 4, 4001, dtype=torch.float64)  # p >= 0


@drawn
@given(values, prices)
def test_eq_10_is_minimised_by_relu_with_a_bias(q: float, beta: float) -> None:
    apart(q, beta)
    p = best(FINE, (q - FINE) ** 2 + 2 * beta * FINE)
    assert p == pytest.approx(max(q - beta, 0), abs=1e-3)
    assert one(PositiveThreshold(beta), q) == (p > 0)


@drawn
@given(values, prices)
def test_eq_11_is_minimised_above_the_root_of_twice_the_price(q: float, price: float) -> None:
    apart(q, math.sqrt(2 * price))
    grid = torch.cat([FINE, torch.tensor([max(q, 0.0)], dtype=torch.float64)])
    p = best(grid, (q - grid) ** 2 + 2 * price * (grid != 0))
    # what is kept is kept as it is, but for the grid's own rounding beside q
    assert p == 0 or p == pytest.approx(q, rel=1e-15)
    assert one(PositiveThreshold.from_price(price), q) == (p > 0)


@drawn
@given(values, st.floats(0.0, 2.5))
def test_a_threshold_is_the_minimiser_of_eq_11_for_half_its_square(q: float, beta: float) -> None:
    apart(q, beta)
    price = beta**2 / 2
    keep, drop = 2 * price if q > 0 else math.inf, q**2
    assert one(PositiveThreshold(beta), q) == (q > 0 and keep < drop)


def test_eq_9_with_the_price_for_its_threshold_is_not_the_minimiser_of_eq_11() -> None:
    price, q = 1.0, 1.2  # the paper's slip: 1 < q, but q² < 2 price
    assert (q - q) ** 2 + 2 * price > q**2
    assert one(PositiveThreshold(price), q)
    assert not one(PositiveThreshold.from_price(price), q)


@drawn
@given(st.lists(values, min_size=1, max_size=6), prices)
def test_eq_36_is_minimised_by_energy(q: list[float], price: float) -> None:
    for value in q:
        apart(value**2, price)
    units = len(q)
    x = torch.tensor([q], dtype=torch.float64)
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * units)
    every = every.view(2**units, units)
    objective = ((x - every * x) ** 2).sum(1) + price * every.sum(1)
    assert torch.equal(Energy(price)(x)[0], every[objective.argmin()] == 1)


@drawn
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**20), prices)
def test_eq_39_over_the_batch_size_is_minimised_by_batch_energy(
    batch: int, units: int, seed: int, price: float
) -> None:
    x = normal(batch, units, seed=seed)
    for unit in range(units):
        apart(float((x[:, unit] ** 2).mean()), price)
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * units)
    every = every.view(2**units, 1, units)
    objective = ((x - every * x) ** 2).sum((1, 2)) / batch + price * every.sum((1, 2))
    assert torch.equal(BatchEnergy(price)(x), every[objective.argmin()] == 1)


@drawn
@given(st.integers(1, 6), st.integers(0, 2**20), st.floats(-1, 1))
def test_the_vote_is_won_by_more_than_half(batch: int, seed: int, beta: float) -> None:
    x = normal(batch, 3, 2, seed=seed)
    mask = MajorityVote(beta)(x)
    assert mask.shape == (1, 3, 2)
    for place in torch.cartesian_prod(torch.arange(3), torch.arange(2)).tolist():
        votes = [bool(x[n][tuple(place)] > beta) for n in range(batch)]
        assert bool(mask[0][tuple(place)]) == (votes.count(True) > votes.count(False))


def test_a_drawn_vote_is_lost() -> None:
    assert not bool(MajorityVote()(torch.tensor([[1.0], [-1.0]])))


# -- what each rule keeps --------------------------------------------------------------------------


def test_the_signs_of_what_is_kept() -> None:
    q = torch.tensor([[-3.0, -1.0, 0.0, 1.0, 3.0]])
    assert PositiveThreshold(1.0)(q).tolist() == [[False, False, False, False, True]]
    assert PositiveThreshold(0.0)(q).tolist() == [[False, False, False, True, True]]
    assert PositiveThreshold(-2.0)(q).tolist() == [[False, True, True, True, True]]
    assert Energy(1.0)(q).tolist() == [[True, False, False, False, True]]
    assert BatchEnergy(1.0)(q).tolist() == [[True, False, False, False, True]]


@pytest.mark.parametrize(
    ("make", "score"),
    [
        (PositiveThreshold, lambda q: q),
        (Energy, lambda q: q.square()),
        (BatchEnergy, lambda q: q.square().mean(0, keepdim=True)),
    ],
)
def test_a_limit_for_each_channel(make: Any, score: Any) -> None:
    q, limits = normal(4, 3, 5, 2), torch.tensor([0.1, 0.7, 2.0], dtype=torch.float64)
    expected = torch.stack([score(q)[:, c] > limits[c] for c in range(3)], 1)
    assert torch.equal(make(limits)(q), expected)
    with pytest.raises(SettingsError, match="3 entries"):
        make(limits)(normal(4, 2, 5))


def test_a_vote_with_a_limit_for_each_channel() -> None:
    q, limits = normal(5, 3, 2), torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64)
    expected = torch.stack([(q[:, c] > limits[c]).sum(0, keepdim=True) >= 3 for c in range(3)], 1)
    assert torch.equal(MajorityVote(limits)(q), expected)


@drawn
@given(
    st.sampled_from([PositiveThreshold, Energy, BatchEnergy]),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(1, 4),
    st.floats(0, 1),
    st.integers(0, 2**20),
)
def test_density_keeps_that_share_of_the_largest(
    make: Any, shape: list[int], batch: int, density: float, seed: int
) -> None:
    q = normal(batch, *shape, seed=seed)
    mask = make(density=density)(q)
    score = {
        PositiveThreshold: q,
        Energy: q.square(),
        BatchEnergy: q.square().mean(0, keepdim=True),
    }[make].flatten(1)
    units = score.shape[1]
    for row, kept in zip(score, mask.flatten(1), strict=True):
        assert int(kept.sum()) == round(density * units)
        if 0 < int(kept.sum()) < units:
            assert row[kept].min() > row[~kept].max()


def test_density_counts_ties_out_rather_than_in() -> None:
    assert PositiveThreshold(density=0.5)(torch.tensor([[1.0, 1.0, 1.0, 0.0]])).sum() == 0
    assert PositiveThreshold(density=0.75)(torch.tensor([[1.0, 1.0, 1.0, 0.0]])).sum() == 3


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.float32])
def test_density_in_low_precision(dtype: torch.dtype) -> None:
    # squares of these overflow in half precision
    q = torch.tensor([[300.0, -400.0, 500.0, -1.0]], dtype=dtype)
    assert Energy(density=0.5)(q).tolist() == [[False, True, True, False]]
    assert BatchEnergy(density=0.5)(q).tolist() == [[False, True, True, False]]
    assert Energy(1.0)(q).tolist() == [[True, True, True, False]]


@drawn
@given(st.integers(1, 4), st.integers(1, 12), st.floats(0, 1), st.integers(0, 2**20))
def test_keep_is_a_share_of_what_relu_keeps(batch: int, units: int, keep: float, seed: int) -> None:
    q = normal(batch, units, seed=seed)
    mask = PositiveThreshold(keep=keep)(q)
    assert not bool((mask & (q <= 0)).any())
    for row, kept in zip(q, mask, strict=True):
        positive = int((row > 0).sum())
        assert abs(int(kept.sum()) - keep * positive) <= 0.5 + 1e-5
        rest = row[~kept]
        if kept.any() and len(rest):
            assert row[kept].min() > rest.max()


def test_keeping_all_is_relu() -> None:
    q = normal(3, 4, 2)
    assert torch.equal(PositiveThreshold(keep=1.0)(q), q > 0)
    assert not bool(PositiveThreshold(keep=0.0)(q).any())


# -- who depends on whom ---------------------------------------------------------------------------

INSTANCE = [
    PositiveThreshold(0.3),
    PositiveThreshold(density=0.4),
    PositiveThreshold(keep=0.5),
    Energy(0.5),
    Energy(density=0.4),
]


@pytest.mark.parametrize("rule", INSTANCE)
def test_a_mask_of_an_example_does_not_depend_on_its_batch(rule: Rule) -> None:
    q = normal(6, 4, 3)
    whole = rule(q)
    assert whole.shape == q.shape
    for i in range(6):
        assert torch.equal(whole[i : i + 1], rule(q[i : i + 1]))
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    assert torch.equal(rule(q[order]), whole[order])


@pytest.mark.parametrize("rule", INSTANCE)
def test_a_recorded_support_of_an_example_does_not_depend_on_its_batch(rule: Rule) -> None:
    # with weights that are powers of two, so that no rounding depends on the batch either
    net = mlp(8, 6, 3)
    x = normal(5, 8)
    for p in net.parameters():
        p.data.sign_().mul_(0.5)
    x = x.mul(64).round().div(64)
    whole = ts.record(net, x, rule=rule)
    for i in range(5):
        assert ts.record(net, x[i : i + 1], rule=rule) == whole[[i]]


@pytest.mark.parametrize(
    "rule", [BatchEnergy(0.9), BatchEnergy(density=0.3), MajorityVote(), MajorityVote(0.2)]
)
def test_a_mask_of_a_batch_does_not_depend_on_its_size(rule: Rule) -> None:
    q = normal(4, 5, 3)
    assert rule(q).shape == (1, 5, 3)
    assert torch.equal(rule(q), rule(q.repeat(8, 1, 1)))
    assert torch.equal(rule(q), rule(q.flip(0)))


def test_rules_do_not_change_what_they_look_at() -> None:
    q = normal(3, 4)
    for rule in (*INSTANCE, BatchEnergy(1.0), MajorityVote()):
        before = q.clone()
        rule(q)
        assert torch.equal(q, before)


@pytest.mark.parametrize("rule", [*INSTANCE, BatchEnergy(0.1), BatchEnergy(density=0.5)])
def test_rules_on_an_empty_batch(rule: Rule) -> None:
    mask = rule(torch.zeros(0, 4, 3))
    assert mask.dtype == torch.bool
    assert mask.shape[1:] == (4, 3)


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [PositiveThreshold, Energy, BatchEnergy])
def test_one_of_two_ways_to_say_how_much(make: Any) -> None:
    for arguments in ({}, {"density": 1.5}, {"density": -0.1}, {"density": math.nan}):
        with pytest.raises(SettingsError, match="density"):
            make(**arguments)
    with pytest.raises(SettingsError, match="density"):
        make(1.0, density=0.5)


@pytest.mark.parametrize(
    "arguments", [{"keep": 1.1}, {"keep": 0.5, "beta": 1.0}, {"keep": 0.5, "density": 0.5}]
)
def test_keep_stands_alone(arguments: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="keep"):
        PositiveThreshold(**arguments)


def test_a_price_is_not_negative() -> None:
    with pytest.raises(SettingsError, match="-1"):
        PositiveThreshold.from_price(-1)


def test_rules_say_what_they_are() -> None:
    assert repr(PositiveThreshold(0.5)) == "PositiveThreshold(beta=0.5, density=None, keep=None)"
    assert isinstance(Energy(1.0), Rule)
    assert isinstance(lambda q: q > 0, Rule)
    assert not isinstance("nonsense", Rule)


# -- rules of one's own ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        (lambda q: (q > 0).float(), "float32"),
        (lambda q: (q > 0)[:, 0], r"bool of \(4,"),
        (lambda q: (q > 0)[:2], r"bool of \(2,"),
        (lambda q: True, "True"),
        (BatchEnergy, "BatchEnergy"),
        (nn.ReLU(), "float64"),
    ],
)
def test_a_rule_that_gives_no_mask_is_refused(rule: Any, what: str) -> None:
    net, x = twice(), images()
    with pytest.raises(SettingsError, match=what):
        ts.record(net, x, rule=rule)
    with ts.hold(net, rule), pytest.raises(SettingsError, match=what):
        net(x)


def test_a_rule_of_ones_own_is_asked_at_every_site() -> None:
    seen: list[tuple[int, ...]] = []

    def every_other(q: Tensor) -> Tensor:
        seen.append(tuple(q.shape))
        on = torch.zeros(q.shape[1:].numel(), dtype=torch.bool)
        on[::2] = True
        return on.view(1, *q.shape[1:])

    net, x = twice(), images()
    with ts.hold(net, every_other):
        net(x)
    assert seen == [(4, 4, 5, 5), (4, 4, 5, 5), (4, 4, 5, 5), (4, 4, 5, 5), (4, 4)]
    assert torch.equal(mask_of(every_other, x), every_other(x))


def test_a_mask_in_any_layout_is_a_mask() -> None:
    # a view that starts in the middle of a word, or runs backwards, packs like any other
    def oddly(q: Tensor) -> Tensor:
        base = torch.zeros(q.numel() + 3, dtype=torch.bool)
        base[3:] = (q > 0).flatten()
        return base[3:].view(q.shape)

    def permuted(q: Tensor) -> Tensor:
        order = list(range(q.ndim))[::-1]
        return (q > 0).permute(order).contiguous().permute(order)

    net, x = twice(), images()
    for rule in (oddly, permuted):
        assert ts.record(net, x, rule=rule) == ts.record(net, x, rule=PositiveThreshold(0.0))
