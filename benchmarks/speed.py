"""Speed of the core, paired and interleaved: python benchmarks/speed.py all --out FILE.json."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

import twostroke as ts
from common import (
    Clock,
    add_device,
    cpu_seconds_of,
    paired,
    parser_of,
    seconds_of,
    show,
    synchronise,
    write,
)
from twostroke.models import create_model


def low_precision(options: argparse.Namespace) -> torch.autocast:
    """Bfloat16, where `--bf16` asks for it."""
    return torch.autocast(options.device, torch.bfloat16, enabled=options.bf16)


def problem(name: str, batch: int, options: argparse.Namespace, size: int = 32):
    torch.manual_seed(0)
    model = create_model(name, classes=10).train().to(options.device)
    x = torch.randn(batch, 3, size, size, device=options.device)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (batch,), device=options.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step(context=None) -> None:
        with low_precision(options), context or nullcontext():
            loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return model, x, step


def step_speed(options: argparse.Namespace, clock: Clock = seconds_of) -> dict:
    results = {}
    for name in options.models:
        model, x, step = problem(name, options.batch, options)
        with low_precision(options):
            support = ts.record(model, x)
        variants = {
            "plain ReLU step": lambda step=step: step(),
            "held step": lambda step=step, m=model, s=support: step(ts.hold(m, s)),
            "held step, gated": lambda step=step, m=model, s=support: step(
                ts.hold(m, s, gated=True)
            ),
            "batch-wise step": lambda step=step, m=model: step(
                ts.hold(m, ts.BatchEnergy(density=0.9), gated=True)
            ),
        }
        results[name] = paired(variants, options.turns, clock)
        show(f"one training step, {name}, batch {options.batch}", results[name])
    return results


def memory(options: argparse.Namespace) -> dict:
    """Peak memory of a step on a CPU, in MB above what stood before."""
    results = {}
    for name in options.models:
        kinds = ("plain", "held")
        results[name] = {kind: peak_memory(name, kind, options.batch) for kind in kinds}
        print(f"peak memory above start (MB), {name}: {results[name]}")
    return results


def peak_memory(name: str, kind: str, batch: int) -> float:
    """Largest resident memory (MB) of three steps in a fresh process, above what stood before them."""
    code = f"""
import argparse, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import common, speed, twostroke as ts
options = argparse.Namespace(device="cpu", channels_last=False, bf16=False)
model, x, step = speed.problem({name!r}, {batch}, options)
support = ts.record(model, x[:2])
support = ts.Support(support.sites, support.rows.repeat({batch} // 2, 1))
before = common.forget_peak()
for _ in range(3):
    step(ts.hold(model, support) if {kind!r} == "held" else None)
print(common.memory_mb("VmHWM") - before)
"""
    command = [sys.executable, "-c", code]
    runs = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    return statistics.median(runs)


def record_speed(options: argparse.Namespace, clock: Clock = seconds_of) -> dict:
    results = {}
    for name in options.models:
        model, x, _ = problem(name, options.batch, options)
        model.eval()

        @torch.no_grad()
        def forward(model=model, x=x) -> None:
            with low_precision(options):
                model(x)

        def record(model=model, x=x) -> None:
            with low_precision(options):
                ts.record(model, x)

        variants = {"plain forward": forward, "record": record}
        results[name] = paired(variants, options.turns, clock)
        show(f"support stroke, {name}, batch {options.batch}", results[name])
    return results


def fit_speed(options: argparse.Namespace) -> dict:
    """Whole epochs on the embedded digits: fit's training time against a loop written by hand."""
    data = ts.data.load("mnist-12k").to(options.device)
    size = 100

    def net() -> torch.nn.Module:
        torch.manual_seed(0)
        return create_model("allcnn-mini", in_channels=1).to(options.device)

    def bare() -> float:
        model = net().train()
        optimizer = torch.optim.SGD(
            model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        total = 100 * options.epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 1 - s / total)
        images, labels = data.train.images, data.train.labels
        mean, std = data.train.mean.view(-1, 1, 1), data.train.std.view(-1, 1, 1)
        start = time.perf_counter()
        for _ in range(options.epochs):
            for part in torch.randperm(len(images), device=images.device).split(size):
                x = (images[part].float() / 255 - mean) / std
                loss = F.cross_entropy(model(x), labels[part])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        synchronise()
        return time.perf_counter() - start

    def ours(kind) -> float:
        settings = {"epochs": options.epochs, "batch_size": size, "device": options.device}
        return ts.fit(net(), data, alternation=kind, **settings).history.seconds

    arms = {
        "bare loop": bare,
        "fit, no alternation": lambda: ours(None),
        "fit, instance-wise, gap 2": lambda: ours(ts.InstanceWise(warmup=0, gap=2, drift=None)),
        "fit, instance-wise, online": lambda: ours(
            ts.InstanceWise(warmup=0, gap=2, drift=None, refresh="online")
        ),
        "fit, batch-wise": lambda: ours(ts.BatchWise()),
    }
    bare()
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(max(3, options.turns // 3)):
        for name, work in arms.items():
            seconds[name].append(work())
    result = {}
    print(f"\nimages a second over {options.epochs} epochs of mnist-12k, allcnn-mini")
    for name, values in seconds.items():
        ratios = [b / v for v, b in zip(values, seconds["bare loop"], strict=True)]
        rate = 10_000 * options.epochs / statistics.median(values)
        result[name] = {
            "images_per_second": rate,
            "relative": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
        }
        print(
            f"  {name:<28} {rate:8.0f}   {statistics.median(ratios):.3f} of the bare loop "
            f"({min(ratios):.3f} to {max(ratios):.3f})"
        )
    return result


def import_time(options: argparse.Namespace) -> dict:
    """Seconds of whole processes, in turns: PyTorch alone, the library, and what the command line prints."""

    def process(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], capture_output=True)

    result = paired(
        {
            "import torch": process("-c", "import torch"),
            "import twostroke, all of it": process("-c", "import twostroke as ts; ts.fit"),
            "twostroke --help": process("-m", "twostroke", "--help"),
            "twostroke trian": process("-m", "twostroke", "trian"),
            "twostroke train --help": process("-m", "twostroke", "train", "--help"),
        },
        options.turns,
    )
    show("imports", result)
    return result


def muon_speed(options: argparse.Namespace, clock: Clock = seconds_of) -> dict:
    """What an optimiser's own work takes, relative to forward and backward pass."""
    results = {}
    for name in options.models:
        model, x, _ = problem(name, options.batch, options, options.size)
        y = torch.randint(0, 10, (options.batch,), device=options.device)

        def passes(model=model, x=x, y=y) -> None:
            model.zero_grad()
            with low_precision(options):
                loss = F.cross_entropy(model(x), y)
            loss.backward()

        passes()  # leaves gradients for the optimisers
        sgd = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9, nesterov=True)
        variants = {"forward and backward": passes, "SGD": sgd.step}
        for block in options.blocks:
            optimizer = ts.solvers.Muon(model.parameters(), lr=1e-5, block=block)
            variants[f"Muon, blocks of {block}"] = optimizer.step
        results[name] = paired(variants, options.turns, clock)
        show(f"optimiser, {name}, batch {options.batch}, {options.size} px", results[name])
    return results


PARTS = {
    "step": step_speed,
    "memory": memory,
    "record": record_speed,
    "fit": fit_speed,
    "imports": import_time,
    "muon": muon_speed,
}


def add_muon(parser: argparse.ArgumentParser) -> None:
    """Options of `muon_speed`."""
    parser.add_argument("--size", type=int, default=32, help="muon: pixels of an image's side")
    parser.add_argument("--blocks", type=int, nargs="+", default=[64], help="muon: rows")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("part", choices=["all", *PARTS], nargs="+")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--batch", type=int, default=64)
    add_muon(parser)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--models", nargs="+", default=["allcnn-c", "resnet18"])
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument(
        "--cpu-seconds", action="store_true", help="step, record, muon: processor time"
    )
    add_device(parser)
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    chosen = list(PARTS) if "all" in options.part else options.part
    results = {}
    for part in chosen:
        work = partial(PARTS[part], options)
        takes_clock = options.cpu_seconds and part in ("step", "record", "muon")
        results[part] = work(cpu_seconds_of) if takes_clock else work()
    write(options.out, options, results=results)


if __name__ == "__main__":
    main()
