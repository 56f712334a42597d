"""Threads, checkpoints, replicas, scripts: followed, or refused with a reason."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import twostroke as ts
from twostroke.errors import NestedHoldError, OutsideForwardError, UnholdableError

from .blocks import everything_as_before
from .helpers import (
    TWICE_KEYS,
    assert_held_as_live,
    images,
    mlp,
    normal,
    run,
    twice,
)

# -- out of the forward pass -------------------------------------------------------------------------------


def test_parts_called_outside_of_the_forward_pass_are_refused() -> None:
    net, x = twice(), images()
    with ts.hold(net, ts.record(net, x)):
        for attempt in (
            lambda: net.forward(x),
            lambda: net.c1(x),
            lambda: net.relu(x),
            lambda: nn.Sequential(net.c1, net.bn)(x),
        ):
            with pytest.raises(OutsideForwardError, match="outside of its model's forward pass"):
                attempt()
            net(x)
    with ts.recording(net), pytest.raises(OutsideForwardError, match="'relu'"):
        net.relu(x)


def in_a_thread(function: Callable[[], Any]) -> Any:
    result: list[Any] = []

    def call() -> None:
        try:
            result.append(function())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def test_the_held_model_in_another_thread_is_refused() -> None:
    net, x = twice(), images()
    support = ts.record(net, x)
    with everything_as_before(net), ts.hold(net, support):
        for attempt in (lambda: net(x), lambda: net.relu(x), lambda: net.forward(x)):
            with pytest.raises(OutsideForwardError, match="another thread"):
                in_a_thread(attempt)
        net(x)


def test_other_threads_may_use_other_models_and_hold_them() -> None:
    net, other, x = twice(), twice(seed=1), images()
    support = ts.record(net, x)[[1, 0, 3, 2]]
    live = other(x)
    masks = ts.record(other, x)[[3, 2, 1, 0]]
    with ts.hold(other, masks):
        alone = other(x)
    with ts.hold(net, support):
        held = net(x)
        assert torch.equal(in_a_thread(lambda: other(x)), live)
        assert torch.equal(in_a_thread(lambda: F.relu(x)), F.relu(x))

        def hold_there() -> Tensor:
            with ts.hold(other, masks):
                return other(x)

        assert torch.equal(in_a_thread(hold_there), alone)
        assert torch.equal(net(x), held)


def test_a_replica_of_data_parallel_is_refused() -> None:
    net, x = twice(), images()
    replica = copy.deepcopy(net)
    replica._is_replica = True
    with (
        ts.hold(net, ts.record(net, x)),
        pytest.raises(OutsideForwardError, match="DataParallel"),
    ):
        in_a_thread(lambda: replica(x))


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.last = nn.Linear(4, 2)
        self.reentrant = reentrant
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(checkpoint(self.part, x, use_reentrant=self.reentrant))


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_is_refused(reentrant: bool) -> None:
    torch.manual_seed(0)
    net, x = Checkpointed(reentrant), normal(3, 4).requires_grad_()
    support = ts.record(net, x)
    assert [s.key for s in support.sites] == ["part.1#0"]
    with everything_as_before(net), ts.hold(net, support):
        if reentrant:  # its backward pass would not notice: refused beforehand
            with pytest.raises(OutsideForwardError, match=r"'part\.1'.*activation checkpoint"):
                net(x)
        else:
            output = net(x)
            with pytest.raises(OutsideForwardError, match="activation checkpointing"):
                output.sum().backward()
    with ts.hold(net, support), torch.no_grad():
        held = net(x)
    assert torch.equal(held, net(x))
    net(x).sum().backward()


def test_a_checkpoint_that_is_run_again_after_the_hold_is_noticed() -> None:
    net, x = Checkpointed(False), normal(3, 4).requires_grad_()
    with ts.hold(net, ts.record(net, x)):
        output = net(x)
    with pytest.raises(torch.utils.checkpoint.CheckpointError, match="different"):
        output.sum().backward()


def test_a_frozen_part_without_gradients_is_held() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = mlp(4, 6, 5), mlp(5, 5, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                z = F.relu(self.body(x))
            return self.head(z)

    assert_held_as_live(Frozen(), normal(3, 4))


# -- forms that cannot be followed ---------------------------------------------------------------------------


def test_data_parallel_is_refused() -> None:
    net, x = twice(), images()
    support = ts.record(net, x)
    for wrapped in (nn.DataParallel(net), torch.compile(nn.DataParallel(net), backend="eager")):
        with pytest.raises(UnholdableError, match=r"DataParallel.*\.module"):
            ts.record(wrapped, x)
        with pytest.raises(UnholdableError, match="DataParallel"), ts.hold(wrapped, support):
            pytest.fail("the block was entered")
    assert ts.record(nn.DataParallel(net).module, x) == support


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_scripted_and_traced_models_are_refused() -> None:
    net, x = mlp(5, 8, 3), normal(4, 5)
    support = ts.record(net, x)
    for form in (torch.jit.script(net), torch.jit.trace(net, x)):
        with pytest.raises(UnholdableError, match="outside of Python"):
            ts.record(form, x)
        with pytest.raises(UnholdableError, match="outside of Python"), ts.hold(form, support):
            pytest.fail("the block was entered")


@pytest.fixture
def process_group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel_is_followed() -> None:
    net, x = twice().train(), images()
    plain = run(twice().train(), x)
    wrapped = DistributedDataParallel(net)
    support = ts.record(wrapped, x)
    assert [s.key for s in support.sites] == TWICE_KEYS
    assert support == ts.record(twice().train(), x)
    for given in (wrapped, net):
        wrapped.zero_grad()
        with ts.hold(given, support):
            output = wrapped(x)
            output.square().sum().backward()
        assert torch.equal(output, plain[0])
        grads = [p.grad for p in net.parameters()]
        assert all(torch.equal(a, b) for a, b in zip(grads, plain[1][1:], strict=True))
    swapped = support[[1, 0, 3, 2]]
    with ts.hold(wrapped, swapped):
        held = wrapped(x)
    with ts.hold(net, swapped):
        assert torch.equal(net(x), held)
    with ts.hold(wrapped, support), pytest.raises(NestedHoldError):
        ts.record(net, x)


@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel_within_a_compiled_model() -> None:
    net, x = twice(), images()
    support = ts.record(net, x)
    wrapped = torch.compile(DistributedDataParallel(net), backend="eager")
    assert ts.record(wrapped, x) == support
    with ts.hold(wrapped, support[[1, 0, 3, 2]]):
        held = wrapped(x)
    with ts.hold(net, support[[1, 0, 3, 2]]):
        assert torch.equal(net(x), held)
