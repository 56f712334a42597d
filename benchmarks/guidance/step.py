"""What guidance adds to a training step: python benchmarks/guidance/step.py --out step.json.

A guided step (its batch of the guide read, packed bits, all sites) against the same step without, turn by
turn in one process, in processor time, which other work on the machine hardly moves. One thread. On a GPU
(`--device cuda`) in wall time of ten steps, with `--bf16` under autocast.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import twostroke as ts
from twostroke.models import create_model
from twostroke.runs.versions import versions


def resnet18() -> nn.Module:
    """ResNet-18 as it is used on pictures of 32×32: a first convolution of 3×3, no pooling after it."""
    net = torchvision.models.resnet18(num_classes=10)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


NETS = {
    "allcnn-c": lambda: create_model("allcnn-c", classes=10),
    "resnet18": resnet18,
    "allcnn-mini": lambda: create_model("allcnn-mini", classes=10),
}


def synchronised() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    torch.manual_seed(0)
    batch, device = options.batch, options.device
    teacher, student = NETS[name]().eval().to(device), NETS[name]().train().to(device)
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,)).to(device)
    guide, x = ts.Guide.record(teacher, x).to(device), x.to(device)
    steps = 1 if device == "cpu" else 10
    low = torch.autocast(device, torch.bfloat16, enabled=options.bf16)
    if options.channels_last:
        student = student.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3)

    def plain() -> None:
        optimizer.zero_grad()
        with low:
            loss = F.cross_entropy(student(x), y)
        loss.backward()
        optimizer.step()

    def guided() -> None:
        optimizer.zero_grad()
        with low, ts.guided(student, guide.batch(torch.arange(batch))) as guidance:
            outputs = student(x)
        (F.cross_entropy(outputs, y) + 30 * guidance.loss()).backward()
        optimizer.step()

    def seconds(step) -> float:
        clock = time.process_time if device == "cpu" else synchronised
        start = clock()
        for _ in range(steps):
            step()
        return (clock() - start) / steps

    for step in (plain, guided) * 2:
        step()
    pairs = [(seconds(plain), seconds(guided)) for _ in range(options.turns)]
    ratios = [b / a for a, b in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    plain_ms = 1e3 * statistics.median(a for a, _ in pairs)
    return {"plain_ms": plain_ms, "ratio": middle, "ratio_q1": low, "ratio_q3": high}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    found = {}
    for name in options.nets:
        found[name] = r = measure(name, options)
        print(
            f"{name:<12} plain {r['plain_ms']:7.1f} ms   guided {r['ratio']:.3f} × "
            f"({r['ratio_q1']:.3f} to {r['ratio_q3']:.3f})",
            flush=True,
        )
    if options.out:
        text = json.dumps(
            {"versions": versions(), "batch": options.batch, "steps": found}, indent=1
        )
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
