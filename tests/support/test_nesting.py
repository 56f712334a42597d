"""Two blocks at once: refused for one model, right for two."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import twostroke as ts
from twostroke.errors import NestedHoldError, UnholdableError
from twostroke.support import Energy, Support

from .blocks import everything_as_before
from .helpers import (
    assert_held_as_live,
    images,
    mlp,
    normal,
    random_masks,
    support_of,
    twice,
)


def test_nesting_of_the_same_model_is_refused() -> None:
    net, x = twice(), images()
    support = ts.record(net, x)
    inner: list[Callable[[], Any]] = [
        lambda: ts.record(net, x),
        lambda: ts.sites(net, x),
        lambda: ts.hold(net, support).__enter__(),
        lambda: ts.recording(net).__enter__(),
        lambda: ts.hold(torch.compile(net, backend="eager"), support).__enter__(),
    ]
    outer: list[Callable[[], Any]] = [
        lambda: ts.hold(net, support),
        lambda: ts.hold(net, Energy(0.1), strict=False),
        lambda: ts.recording(net),
    ]
    live = net(x)
    for block, attempt in itertools.product(outer, inner):
        with block():
            with pytest.raises(NestedHoldError, match="held or recorded already"):
                attempt()
            net(x)
    with ts.hold(net, support):
        with pytest.raises(NestedHoldError):
            ts.record(net, x)
        assert torch.equal(net(x), live)


def test_nesting_of_a_part_or_of_what_shares_a_part_is_refused() -> None:
    net, x = twice(), images()
    support = ts.record(net, x)
    shares = nn.Sequential(net.c1, nn.ReLU())
    contains = nn.Sequential(net, nn.ReLU())
    for other in (net.relu, net.c1, shares, contains):
        with ts.hold(net, support), pytest.raises(NestedHoldError):
            ts.sites(other, x)
        with ts.hold(other, Energy(0.1)), pytest.raises(NestedHoldError):
            ts.record(net, x)


@pytest.mark.parametrize("swap", [False, True])
def test_two_models_side_by_side(swap: bool) -> None:
    one, two, x = mlp(5, 8, 6, 3), mlp(5, 7, 3, seed=1), normal(4, 5)
    pairs = [(m, support_of(random_masks(ts.sites(m, x), 4))) for m in (one, two)]
    alone = []
    for model, support in pairs:
        with ts.hold(model, support):
            alone.append(model(x))
    with ExitStack() as stack:
        for model, support in reversed(pairs) if swap else pairs:
            stack.enter_context(ts.hold(model, support))
        for _ in range(2):
            assert torch.equal(one(x), alone[0])
            assert torch.equal(two(x), alone[1])
    # one may be recorded while the other is held
    with ts.hold(*pairs[0]):
        assert ts.record(two, x) == ts.record(copy.deepcopy(two), x)


class Student(nn.Module):
    """A net that asks a teacher, which is no part of it, in the middle of its forward pass."""

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.a, self.relu, self.b = nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 5)
        self.ask = lambda x: teacher(x)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        z = F.relu(self.b(self.relu(self.a(x))))
        return F.relu(z + F.relu(self.ask(z)) - 0.1)


@pytest.mark.parametrize("penalty", [False, True])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("teacher_first", [False, True])
def test_a_held_teacher_within_a_held_student(
    teacher_first: bool, gated: bool, penalty: bool
) -> None:
    torch.manual_seed(0)
    teacher, x = mlp(5, 8, 5), normal(4, 5)
    student = Student(teacher)
    teachers = support_of(random_masks(ts.sites(teacher, x), 4))
    with ts.hold(teacher, teachers):
        sites = ts.sites(student, x)
    assert [s.key for s in sites] == ["relu#0", "#0", "#1", "#2"]
    students = support_of(random_masks(sites, 4, seed=1))
    pairs: list[tuple[nn.Module, Support]] = [(teacher, teachers), (student, students)]
    with ExitStack() as stack:
        for model, support in pairs if teacher_first else reversed(pairs):
            stack.enter_context(ts.hold(model, support, gated=gated, penalty=penalty))
        held = student(x)

    def m(mask: Tensor, q: Tensor) -> Tensor:
        return torch.where(mask, torch.relu(q) if gated else q, 0.0)

    s = {site.key: students[site] for site in sites}
    z = m(s["#0"], student.b(m(s["relu#0"], student.a(x))))
    answer = teacher[2](m(teachers["1"], teacher[0](z)))
    assert torch.equal(held, m(s["#2"], z + m(s["#1"], answer) - 0.1))


def test_a_teacher_that_is_not_held_belongs_to_the_student() -> None:
    torch.manual_seed(0)
    teacher, x = mlp(5, 8, 5), normal(4, 5)
    student = Student(teacher)
    support = assert_held_as_live(student, x)
    assert [s.key for s in support.sites] == ["relu#0", "#0", "#1", "#2", "#3"]
    assert support.sites[2].shape == (8,)


def test_a_teacher_is_refused_by_its_own_hold_and_not_by_the_students() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(5, 5), nn.GELU(), nn.ReLU()).double()
    student, x = Student(teacher), normal(4, 5)
    with pytest.raises(UnholdableError, match="gelu in the model itself"):
        ts.sites(student, x)
    support = ts.record(teacher, x, strict=False)
    for teacher_first in (False, True):
        student = Student(teacher)
        with ExitStack() as stack:
            if teacher_first:
                stack.enter_context(ts.hold(teacher, support, strict=False))
            with ts.recording(student) as recorder:
                if not teacher_first:
                    stack.enter_context(ts.hold(teacher, support, strict=False))
                student(x)
                assert [s.key for s in recorder.sites] == ["relu#0", "#0", "#1", "#2"]
                stack.close()


def test_blocks_that_do_not_end_in_the_order_of_their_begin() -> None:
    one, two, x = mlp(5, 8, 6, 3), mlp(5, 7, 3, seed=1), normal(4, 5)
    supports = [support_of(random_masks(ts.sites(m, x), 4)) for m in (one, two)]

    def steps(model: nn.Module, support: Support) -> Iterator[Tensor]:
        with ts.hold(model, support):
            while True:
                yield model(x)

    alone = [next(steps(m, s)) for m, s in zip((one, two), supports, strict=True)]
    with everything_as_before(one, two):
        first, second = steps(one, supports[0]), steps(two, supports[1])
        for _ in range(2):
            assert torch.equal(next(first), alone[0])
            assert torch.equal(next(second), alone[1])
        first.close()
        assert torch.equal(next(second), alone[1])
        assert not torch.equal(one(x), alone[0])
        third = steps(one, supports[0])
        assert torch.equal(next(third), alone[0])
        second.close()
        assert torch.equal(next(third), alone[0])
        third.close()
