"""The weight stroke under torch.compile, paired: python benchmarks/compile.py --out FILE.json.

Five arms of one training step: eager and compiled, plain and held, and what becomes of a compiled model
within `hold`, which is eager. Before anything is timed, the compiled held step is compared with the eager
one, and steps with other masks and outside of the block are counted as compilations: there should be none.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch._dynamo.utils import counters

import twostroke as ts
from common import Clock, add_device, paired, parser_of, seconds_of, show, write
from speed import low_precision
from twostroke.models import create_model


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def difference(model, held, support, x, y) -> float:
    """Largest distance of a gradient of the two held steps, relative to the gradient's size."""
    with ts.hold(model, support):
        eager = gradients(model, F.cross_entropy(model(x), y))
    compiled = gradients(model, F.cross_entropy(held(support, x), y))
    return max(float((a - b).norm() / b.norm()) for a, b in zip(compiled, eager, strict=True))


def measure(name: str, options: argparse.Namespace, clock: Clock = seconds_of) -> dict:
    torch.manual_seed(0)
    torch._dynamo.reset()
    model = create_model(name, classes=10).train().to(options.device)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # compiled code draws other numbers
    form = torch.channels_last if options.channels_last else torch.contiguous_format
    model = model.to(memory_format=form)
    x = torch.randn(options.batch, 3, 32, 32, device=options.device).contiguous(memory_format=form)
    y = torch.randint(0, 10, (options.batch,), device=options.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    with low_precision(options):
        support = ts.record(model, x)
    others = [support[torch.randperm(len(support))] for _ in range(3)]
    compiled, held = torch.compile(model), ts.compile_held(model)

    def step(forward) -> None:
        with low_precision(options):
            loss = F.cross_entropy(forward(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def within(given):
        with ts.hold(model, support):
            return given(x)

    arms = {
        "eager step": lambda: step(lambda: model(x)),
        "eager held step": lambda: step(lambda: within(model)),
        "compiled step": lambda: step(lambda: compiled(x)),
        "compiled, then held": lambda: step(lambda: within(compiled)),
        "compiled held step": lambda: step(lambda: held(support, x)),
    }
    seconds = {}
    for arm in ("compiled step", "compiled held step"):
        start = time.perf_counter()
        arms[arm]()
        seconds[arm] = time.perf_counter() - start
    result = {
        "seconds_of_the_first_step": seconds,
        "gradients_differ_by": max(difference(model, held, s, x, y) for s in (support, *others)),
        "graph_breaks": sum(counters["graph_break"].values()),
    }
    before = graphs()
    result["arms"] = paired(arms, options.turns, clock)
    for other in others:
        step(lambda other=other: held(other, x))
    result["graphs"], result["compiled_again"] = before, graphs() - before
    show(f"one training step, {name}, batch {options.batch}", result["arms"])
    print({key: value for key, value in result.items() if key != "arms"})
    return result


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--models", nargs="+", default=["allcnn-c", "resnet18"])
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    add_device(parser)
    return parser.parse_args(arguments)


def measure_all(options: argparse.Namespace, clock: Clock = seconds_of) -> dict:
    results = {}
    for name in options.models:
        counters.clear()
        results[name] = measure(name, options, clock)
    return results


def main() -> None:
    options = parse()
    write(options.out, options, results=measure_all(options))


if __name__ == "__main__":
    main()
