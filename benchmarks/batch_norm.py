"""Supports of a network with batch norm: by its running statistics, and by new estimates of them.

    python benchmarks/batch_norm.py --data npz:cifar10.npz --out FILE.json

torchvision's ResNet-18 on the first training images. First, after every epoch of ordinary training, the
share of units whose mask in evaluation mode, as a sweep records it, differs from that in training mode,
where it will be held: with the running statistics as they are, and with new estimates. Then whole
instance-wise runs, with `statistics=0` and with new estimates before each sweep, paired by seed.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Sequence

import torch
from torch import nn

import twostroke as ts
from common import first_examples, mean_sd, parser_of, write
from twostroke.alternation.statistics import estimate_statistics
from twostroke.runs import EpochRecord


def disagreement(model: nn.Module, x: torch.Tensor) -> float:
    """Share of units whose masks differ between evaluation and training mode, for one batch."""
    apart = [copy.deepcopy(model).train(mode) for mode in (False, True)]
    evaluated, trained = (ts.record(one, x) for one in apart)
    return float(evaluated.drift(trained))


class Lag(ts.Listener):
    """After every epoch: how many masks the running statistics get wrong."""

    def __init__(self, model: nn.Module, source: ts.data.Examples, batch: int, seed: int) -> None:
        self.model, self.source, self.seed = model, source, seed
        self.x, _ = source.batch(torch.arange(batch))
        self.rows: list[dict] = []

    def epoch(self, record: EpochRecord) -> None:
        fresh = copy.deepcopy(self.model)
        estimate_statistics(fresh, self.source, seed=self.seed)
        row = {"seed": self.seed, "epoch": record.epoch, "loss_live": record.loss_live}
        row |= {"running": disagreement(self.model, self.x)}
        row |= {"estimated": disagreement(fresh, self.x)}
        self.rows.append(row)
        print(row, flush=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--warmups", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    data = first_examples(ts.data.load(options.data), options.train, options.test)
    settings = {"epochs": options.epochs, "batch_size": options.batch}

    def net(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return ts.models.create_model(
            "resnet18", classes=len(data.classes), in_channels=data.train.shape[0]
        )

    lag, runs = [], []
    for seed in range(options.seeds):
        model = net(seed)
        watch = Lag(model, data.train, options.batch, seed)
        ordinary = ts.fit(model, data, seed=seed, listener=watch, **settings)
        lag += watch.rows
        runs.append({"seed": seed, "warmup": None, "statistics": None, "error": ordinary.error})
        for warmup in options.warmups:
            for examples in (0, 2048):
                kind = ts.InstanceWise(warmup=warmup, gap=1, statistics=examples)
                result = ts.fit(net(seed), data, alternation=kind, seed=seed, **settings)
                row = {"seed": seed, "warmup": warmup, "statistics": examples}
                row |= {"status": result.status.name, "error": result.error}
                row |= {"held": sum(record.phase == "held" for record in result.history)}
                row |= {"seconds": result.history.seconds}
                runs.append(row)
                print(row, flush=True)
    print("| epoch | masks that differ %: running statistics | new estimates |\n|---|---|---|")
    for epoch in range(1, options.epochs + 1):
        some = [row for row in lag if row["epoch"] == epoch]
        shares = (100 * statistics.fmean(row[k] for row in some) for k in ("running", "estimated"))
        print(f"| {epoch} | " + " | ".join(f"{share:.1f}" for share in shares) + " |")
    print(
        "| warm-up | error %: running statistics | new estimates | difference |\n|---|---|---|---|"
    )
    for warmup in options.warmups:
        old, new = (
            [r["error"] for r in runs if (r["warmup"], r["statistics"]) == (warmup, n)]
            for n in (0, 2048)
        )
        apart = [b - a for a, b in zip(old, new, strict=True)]
        print(f"| {warmup} | " + " | ".join(map(mean_sd, (old, new, apart))) + " |")
    print("ordinary training:", mean_sd([r["error"] for r in runs if r["warmup"] is None]))
    write(options.out, options, data=data.note, lag=lag, runs=runs)


if __name__ == "__main__":
    main()
