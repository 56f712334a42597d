"""The compiled weight stroke: one graph, the eager one's numbers, and no compilation for new masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

import twostroke as ts
from twostroke.errors import NestedHoldError, SupportMismatchError, UnholdableError

from .helpers import ACTIVATIONS, Residual, assert_equal_runs, images, mlp, normal, run, twice


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Bound(nn.Module):
    """A compiled weight stroke with its support, in the form that `run` takes."""

    def __init__(self, held: ts.CompiledHold, support: ts.Support) -> None:
        super().__init__()
        self.model, self.held, self.support = held.model, held, support

    def forward(self, x: Tensor) -> Any:
        return self.held(self.support, x)


def close(one: Any, two: Any) -> None:
    torch.testing.assert_close(one[0], two[0], rtol=1e-12, atol=1e-12)
    for a, b in zip(one[1], two[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("train", [False, True])
def test_the_eager_numbers_in_one_graph_for_any_masks(train: bool, last: bool) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    net, x = twice().train(train), images()
    if last:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    held = ts.compile_held(net, backend=counter)
    own = ts.record(net, x)
    for support in (own, own[[1, 0, 3, 2]], own[[3, 3, 0, 1]], own):
        before = {name: t.clone() for name, t in net.state_dict().items()}
        with ts.hold(net, support):
            expected = run(net, x)
        after = {name: t.clone() for name, t in net.state_dict().items()}
        net.load_state_dict(before)
        close(run(Bound(held, support), x), expected)
        for name, t in net.state_dict().items():  # running statistics too
            torch.testing.assert_close(t, after[name], rtol=1e-12, atol=1e-12)
        net.load_state_dict(before)
    assert counter.frame_count == 1


def test_no_graph_breaks_and_packed_bits_are_all_that_is_kept() -> None:
    net, x = mlp(24, 64, 64, 3), normal(5, 24)
    support = ts.record(net, x)
    held = ts.compile_held(net, backend="aot_eager")
    report = torch._dynamo.explain(held._compile(support, (x,))._torchdynamo_orig_callable)(
        support.rows, x
    )
    assert (report.graph_count, report.graph_break_count) == (1, 0)
    kept: list[Tensor] = []

    def note(t: Tensor) -> Tensor:
        kept.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        held(support, x).sum().backward()
    assert not any(t.dtype == torch.bool for t in kept)
    assert sum(t.numel() for t in kept if t.dtype == torch.uint8) <= support.rows.numel()


# the compiler does not let a function mode see these
UNSEEN = {
    *("F.hardtanh_", "F.leaky_relu_", "F.relu_", "F.threshold in place", "torch.clamp_min_"),
    *("torch.relu_", "torch.threshold_", "HardThreshold", "HardThreshold by channel"),
}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS.keys() - UNSEEN))
def test_every_activation(name: str) -> None:
    torch.manual_seed(1)
    act = ACTIVATIONS[name][1]()
    net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), act, Residual(nn.Conv2d(3, 3, 1), act))
    net, x = net.double(), normal(3, 3, 5, 5)
    support = ts.record(net, x)[[2, 0, 1]]
    with ts.hold(net, support):
        expected = run(net, x)
    held = ts.compile_held(net, backend="eager")
    assert_equal_runs(run(Bound(held, support), x), expected)


@pytest.mark.parametrize("name", sorted(UNSEEN))
def test_what_the_compiler_does_not_show_is_refused(name: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), ACTIVATIONS[name][1](), nn.Conv2d(3, 3, 1), nn.ReLU())
    net, x = net.double(), normal(2, 3, 3, 3)
    support = ts.record(net, x)[[1, 0]]
    with ts.hold(net, support):
        expected = net(x)
    refused = ""
    try:
        got = ts.compile_held(net, backend="eager")(support, x)
    except UnholdableError as error:
        refused = str(error)
    assert "cannot be compiled" in refused or torch.equal(got, expected)


class Wavering(nn.Module):
    """Two ReLUs of a kind whose order, or whose batch, depends on a flag."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.flag = nn.Linear(4, 6), nn.Linear(4, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        x = x[:1] if self.flag == 2 else x
        parts = [self.first, self.second]
        a, b = [torch.relu(p(x)) for p in (reversed(parts) if self.flag == 1 else parts)]
        return a.sum(1) * b.sum(1)


@pytest.mark.parametrize("flag", [1, 2])
def test_a_model_that_comes_to_make_other_calls_is_refused(flag: int) -> None:
    net, x = Wavering().double(), normal(3, 4)
    support = ts.record(net, x)
    held = ts.compile_held(net, backend="eager")
    assert torch.equal(held(support, x), net(x))
    net.flag = flag
    with pytest.raises(UnholdableError, match="cannot be compiled"):
        held(support, x)


def test_max_pooling_held_or_live() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(4, 2, 2)).double()
    x = images()
    held = ts.compile_held(net, backend="aot_eager")
    for pooling in (False, True):
        support = ts.record(net, x, pooling=pooling)[[1, 0, 3, 2]]
        with ts.hold(net, support):
            expected = run(net, x)
        close(run(Bound(held, support), x), expected)


def test_a_shared_support_batches_of_another_size_and_models_that_differ() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    with torch._dynamo.config.patch(recompile_limit=1):
        for seed in range(3):  # more models than the compiler would compile one function for
            net, x = mlp(3, 4, 2, seed=seed), normal(2, 3)
            held = ts.compile_held(net, backend="eager")
            assert torch.equal(held(ts.record(net, x), x), net(x))
    net = twice()
    held = ts.compile_held(net, backend=counter)
    for size in (4, 2, 3):
        x = images(size)
        assert torch.equal(held(ts.record(net, x), x), net(x))
    assert counter.frame_count <= 2  # the second is for any size, if the first is not
    shared = ts.record(net, x, rule=ts.BatchEnergy(density=0.5))
    with ts.hold(net, shared):
        expected = run(net, x)
    close(run(Bound(held, shared), x), expected)


def test_a_compiled_model_and_one_that_is_held_elsewhere() -> None:
    net, x = twice(), images()
    support = ts.record(net, x)
    compiled = torch.compile(net, backend="eager")
    held = ts.compile_held(compiled, backend="eager")
    assert held.model is net
    assert torch.equal(held(support, x), net(x))
    other = twice(seed=1)
    with ts.hold(other, ts.record(other, x)):  # where compiled code runs eagerly
        assert torch.equal(held(support[[1, 0, 3, 2]], x), Bound(held, support[[1, 0, 3, 2]])(x))
    with ts.hold(net, support), pytest.raises(NestedHoldError, match="leave that block"):
        held(support, x)


def test_training_and_autocast() -> None:
    x = images(dtype=torch.float32)
    nets = [twice(dtype=torch.float32).train() for _ in range(2)]
    held = ts.compile_held(nets[1], backend="aot_eager")
    for net in nets:
        optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
        for _ in range(3):
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                support = ts.record(net, x)
                if net is nets[0]:
                    with ts.hold(net, support):
                        loss = net(x).square().sum()
                else:
                    loss = held(support, x).square().sum()
            loss.backward()
            optimiser.step()
    for a, b in zip(*(net.state_dict().values() for net in nets), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2)


def test_dropout_draws_as_it_would_have() -> None:
    net = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 2)).double()
    x = normal(5, 6)
    support = ts.record(net, x)
    held = ts.compile_held(net, backend="eager")
    torch.manual_seed(3)
    with ts.hold(net, support):
        expected = net(x)
    torch.manual_seed(3)
    assert torch.equal(held(support, x), expected)


def test_supports_that_do_not_fit() -> None:
    net, x = twice(), images()
    held = ts.compile_held(net, backend="eager")
    support = ts.record(net, x)
    for wrong in (support[:1], support[[0, 1, 2]]):
        with pytest.raises(SupportMismatchError, match="index it by the examples"):
            held(wrong, x)
    with pytest.raises(SupportMismatchError, match="differ from relu#0 on"):
        held(support, normal(4, 3, 9, 9))
    other = mlp(5, 8, 3)
    with pytest.raises(SupportMismatchError, match="has 1 sites and the model 5"):
        held(ts.record(other, normal(4, 5)), x)
    with pytest.raises(UnholdableError, match="no input is a tensor"):
        held(support)
    gelu = nn.Sequential(nn.Conv2d(3, 2, 1), nn.GELU(), nn.ReLU(), nn.Conv2d(2, 2, 1)).double()
    support = ts.record(gelu, x, strict=False)
    with pytest.raises(UnholdableError, match="gelu"):
        ts.compile_held(gelu, backend="eager")(support, x)
    z = ts.compile_held(gelu, strict=False, backend="eager")(support, x)
    torch.testing.assert_close(z, gelu(x), rtol=1e-12, atol=1e-12)
    with pytest.raises(UnholdableError, match="does not add up gradients"):
        ts.compile_held(
            nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
        )
