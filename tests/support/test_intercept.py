from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as hooks

import twostroke as ts
from twostroke.errors import NestedHoldError, OutsideForwardError, UnholdableError
from twostroke.support import Energy

from .blocks import everything_as_before
from .helpers import (
    Call,
    assert_equal_runs,
    assert_held_as_live,
    images,
    mlp,
    normal,
    run,
    twice,
)


class Failing(nn.Module):
    """A net whose middle raises what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.relu, self.b = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)
        self.middle = Call(self.maybe)
        self.error: BaseException | None = None
        self.double()

    def maybe(self, x: Tensor) -> Tensor:
        if self.error is not None:
            raise self.error
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.b(self.middle(self.relu(self.a(x)))))


ERRORS = [RuntimeError("oh"), KeyboardInterrupt(), SystemExit(1), GeneratorExit(), MemoryError()]


# -- leaving the block ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("seen_before", [False, True])
def test_an_error_in_a_forward_pass_leaves_nothing_behind(
    error: BaseException, seen_before: bool
) -> None:
    net, x = Failing(), normal(3, 4)
    support = ts.record(copy.deepcopy(net), x)
    if seen_before:
        ts.record(net, x)
    live = run(net, x)
    blocks: list[Callable[[], Any]] = [
        lambda: ts.hold(net, support),
        lambda: ts.hold(net, support, strict=False),
        lambda: ts.hold(net, Energy(0.1)),
        lambda: ts.recording(net),
    ]
    for block in blocks:
        with everything_as_before(net):
            net.error = error
            with pytest.raises(type(error)), block():
                net(x)
            with pytest.raises(type(error)):
                ts.record(net, x)
            with pytest.raises(type(error)):
                ts.sites(net, x)
            net.error = None
    assert_equal_runs(live, run(net, x))
    with ts.hold(net, support):
        assert_equal_runs(live, run(net, x))


def test_an_error_in_the_block_leaves_nothing_behind() -> None:
    net, x = twice(), images()
    support = ts.record(net, x)

    def breaks(error: BaseException) -> None:
        with ts.hold(net, support):
            net(x)
            raise error

    for error in ERRORS:
        with everything_as_before(net), pytest.raises(type(error)):
            breaks(error)


def test_an_error_that_is_caught_within_the_block() -> None:
    net, x = Failing(), normal(3, 4)
    support = ts.record(net, x)
    live = run(net, x)
    for error in ERRORS:
        with ts.hold(net, support):
            net.error = error
            with pytest.raises(type(error)):
                net(x)
            net.error = None
            assert_equal_runs(live, run(net, x))
            # and what follows is outside of the model again
            assert torch.equal(F.relu(x), torch.where(x > 0, x, 0.0))
            with pytest.raises(OutsideForwardError):
                net.relu(x)


def test_an_error_that_the_model_itself_catches() -> None:
    class Tries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.relu = Failing(), nn.ReLU()
            self.inner.error = ValueError("inner")

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.inner(x)
            except ValueError:
                return self.relu(x - 0.5) + F.relu(x)

    net = Tries()
    support = assert_held_as_live(net, normal(3, 4))
    assert [s.key for s in support.sites] == ["inner.relu#0", "relu#0", "#0"]


def test_refusals_leave_nothing_behind() -> None:
    net, x = twice(), images()
    support = ts.record(net, x)
    gelu = nn.Sequential(nn.Linear(4, 4), nn.GELU()).double()
    with everything_as_before(net, gelu):
        with pytest.raises(UnholdableError):
            ts.record(gelu, normal(3, 4))
        with pytest.raises(UnholdableError), ts.hold(gelu, support):
            gelu(normal(3, 4))
        with pytest.raises(ts.errors.SupportMismatchError), ts.hold(net, support):
            net(images(2))
        with ts.hold(net, support), pytest.raises(NestedHoldError):
            ts.record(net, x)
        with pytest.raises(UnholdableError), ts.hold(nn.DataParallel(net), support):
            pass
        with pytest.raises(UnholdableError), ts.hold(net, "nonsense"):
            pass


def test_a_block_can_be_left_early_by_return_and_generator() -> None:
    net, x = twice(), images()
    support = ts.record(net, x)

    def early() -> Tensor:
        with ts.hold(net, support):
            return net(x)

    def steps() -> Iterator[Tensor]:
        with ts.hold(net, support):
            yield net(x)
            yield net(x)

    with everything_as_before(net):
        assert torch.equal(early(), net(x))
        generator = steps()
        next(generator)
        generator.close()


# -- within the block ------------------------------------------------------------------------------------


def test_the_model_is_untouched_while_it_is_held() -> None:
    net, x = twice(), images()
    support = ts.record(net, x)[[1, 0, 3, 2]]
    names = list(net.state_dict()), [n for n, _ in net.named_modules()]
    with ts.hold(net, support):
        held = net(x)
        assert (list(net.state_dict()), [n for n, _ in net.named_modules()]) == names
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
        assert type(net.relu) is nn.ReLU
        buffer = io.BytesIO()
        torch.save(net, buffer)
        again = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
        buffer.seek(0)
        again.append(torch.load(buffer, weights_only=False))
        for copied in again:  # a copy is another model, and is not held
            assert not torch.equal(copied(x), held)
        assert torch.equal(net(x), held)
    live = net(x)
    for copied in again:
        assert torch.equal(copied(x), live)
        with ts.hold(copied, support):
            assert torch.equal(copied(x), held)


def test_what_belongs_to_others_is_left_alone() -> None:
    net, x = twice(), images()
    support = ts.record(net, x)[[1, 0, 3, 2]]
    other = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.GELU()).double()
    y, q = other(x), normal(4, 5)
    with ts.hold(net, support):
        assert torch.equal(other(x), y)
        assert torch.equal(F.relu(q), torch.where(q > 0, q, 0.0))
        assert torch.equal(
            q.clamp(-0.1, 0.1), torch.maximum(torch.minimum(q, q * 0 + 0.1), q * 0 - 0.1)
        )
        net(x)
        assert torch.equal(other(x), y)
        assert torch.equal(q.relu(), torch.where(q > 0, q, 0.0))


def test_a_warning_is_shown_once_however_many_blocks_there_are() -> None:
    net, x = twice(), images()
    compiled = torch.compile(net, backend="eager")
    support = ts.record(compiled, x)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for _ in range(3):
            with ts.hold(net, support):
                net(x)
                compiled(x)  # which would warn of the hooks
                warnings.warn("mine", stacklevel=1)
    assert [str(w.message) for w in seen] == ["mine"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ts.hold(net, support):
            compiled(x)


def test_hooks_of_others_go_on_working() -> None:
    net, x = twice(), images()
    seen: list[str] = []
    handles = [
        net.c1.register_forward_hook(lambda *_: seen.append("after c1")),
        net.relu.register_forward_pre_hook(lambda *_: seen.append("before relu")),
        hooks.register_module_forward_hook(
            lambda m, *_: seen.append("global") if m is net.fc else None
        ),
    ]
    support = ts.record(net, x)
    expected = ["after c1", "before relu", "before relu", "global"]
    assert seen == expected
    seen.clear()
    with ts.hold(net, support):
        net(x)
    assert seen == expected
    for handle in handles:
        handle.remove()


def test_modules_in_a_wrapper_that_calls_the_model() -> None:
    net, x = twice(), images()
    wrapper = nn.Sequential(Call(lambda x: F.relu(x)), net)
    support = ts.record(net, F.relu(x))[[1, 0, 3, 2]]
    with ts.hold(net, support):
        direct, wrapped = net(F.relu(x)), wrapper(x)
    assert torch.equal(direct, wrapped)


def test_an_activation_swapped_within_the_block_is_no_longer_the_site() -> None:
    net, x = mlp(5, 8, 3), normal(4, 5)
    support = ts.record(net, x)
    with ts.hold(net, support):
        net[1] = nn.ReLU()
        with pytest.raises(ts.errors.SupportMismatchError, match="no mask"):
            net(x)
