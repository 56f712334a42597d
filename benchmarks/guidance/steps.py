"""Steps to what tuned SGD ends with, on the same labelled images: a teacher by Muon, then fresh networks.

    python benchmarks/guidance/steps.py --data npz:cifar10.npz --out steps.json

SGD is tuned on 3,000 images that nobody trains on, and runs 1,200 steps. The teacher trains on the same 10,000
images, by Muon, as many steps. Fresh networks then learn from its supports and outputs on these images, in
fewer steps. Seconds are of training, one thread; the teacher's own are not counted, since it is there already.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from arms import ARMS, Step
from run import machine, train
from torch import nn

from twostroke import data as datasets
from twostroke.guidance import Guide, pair
from twostroke.models import create_model

IMAGES, STEPS, BATCH = 10_000, 1200, 100


def sgd(net: nn.Module, source, lr: float, seed: int) -> float:
    """Tuned SGD as the convergence benchmark has it: Nesterov, one cycle."""
    optimizer = torch.optim.SGD(net.parameters(), lr, 0.9, nesterov=True, weight_decay=5e-4)

    def term(indices, progress):
        x, y = source.batch(indices)
        return nn.functional.cross_entropy(net(x), y)

    return train([net], term, len(source), STEPS, lr, seed, optimizer=optimizer)


@torch.no_grad()
def error(net: nn.Module, source) -> float:
    net.eval()
    wrong = 0
    for part in torch.arange(len(source)).split(500):
        x, y = source.batch(part)
        wrong += int((net(x).argmax(1) != y).sum())
    return 100 * wrong / len(source)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lrs", type=float, nargs="+", default=[0.2, 0.4])
    parser.add_argument("--steps", type=int, nargs="+", default=[160, 240])
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    data = datasets.load(options.data)
    drawn = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    seen, held_out = data.train.subset(drawn[:IMAGES]), data.train.subset(drawn[-3000:])

    def fresh(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        channels, classes = data.train.shape[0], len(data.classes)
        return create_model("allcnn-mini", in_channels=channels, classes=classes).train()

    found: dict[str, list[dict]] = {}

    def keep(arm: str, net: nn.Module, seconds: float, **more) -> dict:
        row = {"error": error(net, data.test), "seconds": seconds, **more}
        found.setdefault(arm, []).append(row)
        print(arm, row, flush=True)
        return row

    scores = {}
    for lr in options.lrs:
        net = fresh(1000)
        sgd(net, seen, lr, 0)
        scores[lr] = error(net, held_out)
    lr = min(scores, key=lambda rate: scores[rate])
    for seed in range(1, 1 + options.seeds):
        net = fresh(1000 + seed)
        keep("SGD, 1200 steps", net, sgd(net, seen, lr, seed), lr=lr, seed=seed)
    teacher = fresh(0)

    def labelled(indices, progress):
        x, y = seen.batch(indices)
        return nn.functional.cross_entropy(teacher(x), y)

    keep("teacher: Muon, 1200 steps", teacher, train([teacher], labelled, IMAGES, STEPS, 0.05, 0))
    guide = Guide.record(teacher.eval(), seen)
    for steps in options.steps:
        for seed in range(1, 1 + options.seeds):
            net = fresh(1000 + seed)
            pairs = pair(net, guide.sites, seen.batch(torch.arange(2))[0])

            def term(indices, progress, net=net, pairs=pairs):
                x, y = seen.batch(indices)
                step = Step(net, teacher, pairs, x, y, guide.batch(indices), progress, 10.0)
                return ARMS["guided+kd"].term(step)

            seconds = train([net], term, IMAGES, steps, 0.05, seed)
            keep(f"guided + KD, {steps} steps", net, seconds, seed=seed)
    about = {"machine": machine(), "lr of SGD": scores, "images": IMAGES}
    options.out.write_text(json.dumps({"about": about, "rows": found}, indent=1))
    for arm, rows in found.items():
        errors = [row["error"] for row in rows]
        spread = f" ± {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
        seconds = statistics.mean(row["seconds"] for row in rows)
        print(f"| {arm} | {statistics.mean(errors):.2f}{spread} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
