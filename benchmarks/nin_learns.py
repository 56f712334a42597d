"""What makes NIN for MNIST learn: the scale of its inputs, the learning rate, the last layer's biases.

    python benchmarks/nin_learns.py --out benchmarks/results/nin-learns.json

Digits of mnist-12k at half their size (14 × 14) and few of them, so that it takes minutes on a CPU; the
net, its initialisation and its relative learning rates are those of `twostroke reproduce table5`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F

import twostroke as ts
from twostroke.data import preprocess
from twostroke.models import create_model
from twostroke.reproduction.tasks import NINOptimizer
from twostroke.training.run import versions

CASES = [  # inputs, learning rate, initial bias of the last layer
    ("raw", 0.1, 0.0),
    ("raw", 0.05, 0.0),
    ("raw", 0.02, 0.0),
    ("raw", 0.1, 0.5),
    ("raw", 0.05, 0.5),
    ("raw", 0.02, 0.5),
    ("none", 0.1, 0.5),
]


def digits(train: int, test: int) -> ts.data.Data:
    data = ts.data.load("mnist-12k")
    parts = []
    for source, count in ((data.train, train), (data.test, test)):
        small = F.avg_pool2d(source.images[:count].float(), 2).round().byte()
        parts += [small, source.labels[:count]]
    return ts.data.from_tensors(*parts, classes=data.classes, name="mnist-12k at 14 × 14")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--train", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    data = digits(options.train, 500)
    rows = []
    for inputs, lr, bias in CASES:
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            result = ts.fit(
                create_model("nin-mnist", final_bias=bias),
                preprocess(data, inputs),
                epochs=options.epochs,
                batch_size=50,
                optimizer=NINOptimizer(lr, 1e-4),
                schedule="constant",
                probe=200,
                seed=seed,
            )
            errors = [round(e, 1) for e in result.history.column("error")]
            rows.append({"inputs": inputs, "lr": lr, "bias": bias, "seed": seed, "errors": errors})
            print(f"{inputs:<5} lr {lr:<5} bias {bias} seed {seed}: {errors}", flush=True)
    if options.out:
        document = {"versions": versions(), "train": options.train, "test": 500, "rows": rows}
        options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
