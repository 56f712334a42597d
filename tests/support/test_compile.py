"""`torch.compile` before, after, in place, of parts, and around a hold.

The backend counts instead of generating code: what matters here is which calls are compiled, and that
compiled code never runs past a hold.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import twostroke as ts
from twostroke.errors import UnholdableError
from twostroke.support import Energy

from .helpers import TWICE_KEYS, Twice, assert_equal_runs, images, mlp, run, twice


class Counting:
    """A backend that counts graphs and how often they run."""

    def __init__(self) -> None:
        self.compiled = 0
        self.runs = 0

    def __call__(self, graph: torch.fx.GraphModule, _inputs: Any) -> Callable[..., Any]:
        self.compiled += 1

        def runs(*args: Any) -> Any:
            self.runs += 1
            return graph(*args)

        return runs


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def backend() -> Counting:
    return Counting()


def swapped(net: Twice, x: Tensor) -> tuple[Any, Tensor]:
    """A support that is not the net's own, and what the held net computes."""
    support = ts.record(net, x)[[1, 0, 3, 2]]
    with ts.hold(net, support):
        held = net(x)
    assert not torch.equal(held, net(x))
    return support, held


def still_compiled(call: Callable[[Tensor], Tensor], x: Tensor, backend: Counting) -> None:
    """The call runs a graph that was there already."""
    compiled, runs = backend.compiled, backend.runs
    call(x)
    assert backend.compiled == compiled
    assert backend.runs > runs


def test_compiled_before(backend: Counting) -> None:
    net, x = twice(), images()
    support, held = swapped(net, x)
    plain = run(net, x)
    compiled = torch.compile(net, backend=backend)
    compiled(x)
    still_compiled(compiled, x, backend)
    for given in (net, compiled):
        runs = backend.runs
        with ts.hold(given, support):
            assert torch.equal(compiled(x), held)
            assert torch.equal(net(x), held)
            assert torch.equal(compiled(x), held)
        assert backend.runs == runs
    still_compiled(compiled, x, backend)
    assert torch.equal(compiled(x), plain[0])
    with ts.hold(compiled, ts.record(compiled, x)):
        assert_equal_runs(plain, run(compiled, x))
    still_compiled(compiled, x, backend)


def test_keys_are_those_of_the_model_inside(backend: Counting) -> None:
    net, x = twice(), images()
    support = ts.record(net, x)
    compiled = torch.compile(net, backend=backend)
    assert ts.record(compiled, x) == support
    compiled(x)
    assert ts.record(compiled, x) == support
    assert [s.key for s in ts.sites(compiled, x)] == TWICE_KEYS
    assert backend.compiled == backend.runs == 1


def test_compiled_after_the_recording_and_first_called_within_the_hold(backend: Counting) -> None:
    net, x = twice(), images()
    support, held = swapped(net, x)
    compiled = torch.compile(net, backend=backend)
    with ts.hold(net, support):
        assert torch.equal(compiled(x), held)
        inside = torch.compile(net, backend=backend)
        assert torch.equal(inside(x), held)
    assert backend.compiled == 0
    for call in (compiled, inside):
        assert torch.equal(call(x), net(x))
        still_compiled(call, x, backend)


def test_compiled_in_place(backend: Counting) -> None:
    net, x = twice(), images()
    support, held = swapped(net, x)
    live = net(x)
    net.compile(backend=backend)
    net(x)
    still_compiled(net, x, backend)
    with ts.hold(net, support):
        assert torch.equal(net(x), held)
    assert ts.record(net, x)[[1, 0, 3, 2]] == support
    assert torch.equal(net(x), live)
    still_compiled(net, x, backend)


def test_compiled_parts(backend: Counting) -> None:
    net, x = twice(), images()
    support, held = swapped(net, x)
    live = net(x)
    net.c2 = torch.compile(net.c2, backend=backend)
    net.relu = torch.compile(net.relu, backend=backend)
    net.bn.compile(backend=backend)
    net(x)
    still_compiled(net, x, backend)
    assert ts.record(net, x)[[1, 0, 3, 2]] == support
    with ts.hold(net, support):
        assert torch.equal(net(x), held)
    assert torch.equal(net(x), live)
    still_compiled(net, x, backend)


def test_a_compiled_function_that_calls_the_model(backend: Counting) -> None:
    net, x = twice(), images()
    support, held = swapped(net, x)

    @torch.compile(backend=backend)
    def step(x: Tensor) -> Tensor:
        return net(x).square()

    live = step(x)
    with ts.hold(net, support):
        assert torch.equal(step(x), held.square())
    assert torch.equal(step(x), live)
    still_compiled(step, x, backend)


def test_rules_and_recordings_of_compiled_models(backend: Counting) -> None:
    net, x = twice(), images()
    with ts.hold(net, Energy(0.2)):
        held = net(x)
    compiled = torch.compile(net, backend=backend)
    compiled(x)
    with ts.hold(compiled, Energy(0.2)):
        assert torch.equal(compiled(x), held)
    with ts.recording(compiled) as recorder:
        compiled(x)
    assert recorder.support == ts.record(net, x)
    assert ts.record(compiled, x, rule=Energy(0.2)) == ts.record(net, x, rule=Energy(0.2))


def test_another_models_compiled_code_runs_eagerly_in_the_meantime_and_right(
    backend: Counting,
) -> None:
    net, other, x = twice(), twice(seed=1), images()
    compiled = torch.compile(other, backend=backend)
    live = compiled(x)
    support, held = swapped(net, x)
    with ts.hold(net, support):
        assert torch.equal(compiled(x), live)
        assert torch.equal(net(x), held)
    still_compiled(compiled, x, backend)


def test_training_steps_of_a_compiled_model(backend: Counting) -> None:
    x = images()
    nets = [twice().train(), twice().train()]
    models = [nets[0], torch.compile(nets[1], backend=backend)]
    for net, model in zip(nets, models, strict=True):
        optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
        for step in range(4):
            optimiser.zero_grad()
            if step % 2:
                with ts.hold(model, ts.record(model, x)):
                    model(x).square().sum().backward()
            else:
                model(x).square().sum().backward()
            optimiser.step()
    for a, b in zip(*(net.state_dict().values() for net in nets), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert backend.compiled >= 1


def test_holds_in_two_threads_that_end_in_any_order(backend: Counting) -> None:
    nets, x = [twice(), twice(seed=1)], images()
    pairs = [swapped(net, x) for net in nets]
    compiled = [torch.compile(net, backend=backend) for net in nets]
    for model in compiled:
        model(x)
    before = (backend.compiled, backend.runs)
    there_is_held, here_is_left = threading.Event(), threading.Event()
    results = []

    def there() -> None:
        with ts.hold(nets[1], pairs[1][0]):
            there_is_held.set()
            here_is_left.wait(60)
            results.append(compiled[1](x))

    thread = threading.Thread(target=there)
    with ts.hold(nets[0], pairs[0][0]):
        thread.start()
        there_is_held.wait(60)
        assert torch.equal(compiled[0](x), pairs[0][1])
    here_is_left.set()
    thread.join()
    assert torch.equal(results[0], pairs[1][1])
    assert (backend.compiled, backend.runs) == before
    for model in compiled:
        still_compiled(model, x, backend)


@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace")
def test_a_hold_within_compiled_code_is_refused(backend: Counting) -> None:
    net, x = twice(), images()
    support = ts.record(net, x)

    @torch.compile(backend=backend)
    def step(x: Tensor) -> Tensor:
        with ts.hold(net, support):
            return net(x)

    with pytest.raises((RuntimeError, UnholdableError), match="compile"):
        step(x)
    assert torch.equal(twice()(x), net(x))


def test_a_copy_of_a_compiled_model(backend: Counting) -> None:
    net, x = twice(), images()
    support, held = swapped(net, x)
    compiled = torch.compile(net, backend=backend)
    compiled(x)
    with ts.hold(compiled, support):
        again = copy.deepcopy(net)
        assert torch.equal(again(x), twice()(x))
        assert torch.equal(compiled(x), held)


def test_a_hard_threshold_compiles(backend: Counting) -> None:
    net = nn.Sequential(
        nn.Linear(4, 6), ts.HardThreshold(torch.zeros(6), learn=True), ts.HardThreshold(0.1)
    )
    x = torch.randn(3, 4)
    compiled = torch.compile(net, backend=backend, fullgraph=True)
    assert_equal_runs(run(net, x), run(compiled, x))
    assert backend.compiled == 1


FRESH = """
import sys, types
import torch
from torch import nn
sys.modules["twostroke"] = types.ModuleType("twostroke")  # only this room, not what loads dynamo
sys.modules["twostroke"].__path__ = sys.argv[1:]
from twostroke import errors, support as ts
torch.set_num_threads(1)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
x = torch.randn(3, 4)
rule = ts.Energy(0.3)
assert "torch._dynamo" not in sys.modules, "this test shows nothing"
with ts.hold(net, rule):
    compiled = torch.compile(net, backend="eager")
    try:
        output = compiled(x)
    except errors.UnholdableError as error:
        assert "compile" in str(error)
        print("refused")
    else:
        assert torch.equal(output, net(x))
        print("right")
    held = net(x)
assert torch.equal(compiled(x), net(x))
assert not torch.equal(held, net(x))
with ts.hold(net, rule):
    assert torch.equal(compiled(x), held)
print("done")
"""


def test_in_a_process_where_nothing_was_compiled_before_the_hold() -> None:
    folder = str(Path(ts.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", FRESH, folder],
        capture_output=True,
        text=True,
        timeout=300,
        # the compiler would follow numba through all of its loading, which takes half a minute
        env={**os.environ, "TWOSTROKE_KERNELS": "0"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "done"
    assert done.stdout.split()[0] in ("refused", "right")


def test_mlp_is_compiled_in_one_graph(backend: Counting) -> None:
    # the counting backend counts what it should
    net, x = mlp(5, 8, 3), torch.randn(2, 5, dtype=torch.float64)
    compiled = torch.compile(net, backend=backend)
    compiled(x)
    compiled(x)
    assert (backend.compiled, backend.runs) == (1, 2)
