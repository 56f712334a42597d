"""Supports of a network with batch norm: by its running statistics, and by statistics estimated anew.

    python benchmarks/batch_norm.py --data npz:cifar10.npz --out benchmarks/results/batch-norm.json

torchvision's ResNet-18 on the first training images. First, after every epoch of ordinary training, the
share of units whose mask in evaluation mode, as a sweep records it, differs from that in training mode,
where it will be held: with the running statistics as they are, and with new ones. Then whole
instance-wise runs, with `statistics=0` and with new statistics before each sweep, paired by seed.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from pathlib import Path

import torch
from torch import nn
from twostroke.training.run import versions

import twostroke as ts
from twostroke.alternation.statistics import estimate_statistics


def disagreement(model: nn.Module, x: torch.Tensor) -> float:
    """Share of units whose masks differ between evaluation and training mode, for one batch."""
    apart = [copy.deepcopy(model).train(mode) for mode in (False, True)]
    evaluated, trained = (ts.record(one, x) for one in apart)
    return float(evaluated.drift(trained))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--warmups", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    whole = ts.data.load(options.data)
    data = ts.data.Data(
        whole.name,
        whole.train.subset(torch.arange(options.train)),
        whole.test.subset(torch.arange(options.test)),
        whole.classes,
    )
    shape = data.train.shape
    settings = {"epochs": options.epochs, "batch_size": options.batch}

    def net(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return ts.models.create_model("resnet18", classes=len(data.classes), in_channels=shape[0])

    lag, runs = [], []
    x, _ = data.train.batch(torch.arange(options.batch))
    for seed in range(options.seeds):
        model = net(seed)

        def look(record: ts.EpochRecord, model: nn.Module = model, seed: int = seed) -> None:
            fresh = copy.deepcopy(model)
            estimate_statistics(fresh, data.train, seed=seed)
            row = {"seed": seed, "epoch": record.epoch, "loss_live": record.loss_live}
            row |= {"running": disagreement(model, x), "anew": disagreement(fresh, x)}
            lag.append(row)
            print(row, flush=True)

        ordinary = ts.fit(model, data, seed=seed, callback=look, **settings)
        runs.append({"seed": seed, "warmup": None, "statistics": None, "error": ordinary.error})
        for warmup in options.warmups:
            for examples in (0, 2048):
                kind = ts.InstanceWise(warmup=warmup, gap=1, statistics=examples)
                result = ts.fit(net(seed), data, alternation=kind, seed=seed, **settings)
                history = result.history
                row = {"seed": seed, "warmup": warmup, "statistics": examples}
                row |= {"status": result.status.name, "error": result.error}
                row |= {"held": sum(record.phase == "held" for record in history)}
                row |= {"seconds": history.seconds}
                runs.append(row)
                print(row, flush=True)
    print("| epoch | masks that differ %: running statistics | estimated anew |\n|---|---|---|")
    for epoch in range(1, options.epochs + 1):
        some = [row for row in lag if row["epoch"] == epoch]
        shares = (100 * statistics.fmean(row[k] for row in some) for k in ("running", "anew"))
        print(f"| {epoch} | " + " | ".join(f"{share:.1f}" for share in shares) + " |")
    print(
        "| warm-up | error %: running statistics | estimated anew | difference |\n|---|---|---|---|"
    )
    for warmup in options.warmups:
        old, new = (
            [r["error"] for r in runs if (r["warmup"], r["statistics"]) == (warmup, n)]
            for n in (0, 2048)
        )
        apart = [b - a for a, b in zip(old, new, strict=True)]
        print(f"| {warmup} | " + " | ".join(map(told, (old, new, apart))) + " |")
    print("ordinary training:", told([r["error"] for r in runs if r["warmup"] is None]))
    if options.out:
        asked = {k: v for k, v in vars(options).items() if k not in ("out", "data")}
        document = {"versions": versions(), "data": whole.note, **asked, "lag": lag, "runs": runs}
        options.out.write_text(json.dumps(document, indent=1) + "\n")


def told(values: list[float]) -> str:
    """Mean (standard deviation)."""
    spread = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):.2f} ({spread:.2f})"


if __name__ == "__main__":
    main()
