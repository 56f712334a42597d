"""What makes NIN for MNIST learn: its inputs' scale, its initialisation, learning rate and clipping.

    python benchmarks/nin_learns.py --seeds 3 --out FILE.json

mnist-12k at half its size (14 × 14), so that a run takes half a minute on a CPU; the net, its relative
learning rates, batch size and precision are those of `twostroke reproduce table5`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
import torch.nn.functional as F

import twostroke as ts
from common import parser_of, write
from twostroke.data import preprocess
from twostroke.models import create_model
from twostroke.models.blocks import he_init
from twostroke.reproduction.tasks import NINOptimizer

CASES = [  # inputs, initialisation, learning rate, largest norm of the gradient
    ("raw", "published", 0.1, None),
    ("raw", "published", 0.05, None),
    ("raw", "published", 0.02, None),
    ("raw", "published", 0.1, 1.0),
    ("raw", "published", 0.05, 1.0),
    ("none", "published", 0.1, 1.0),
    ("none", "he", 0.05, None),
    ("none", "he", 0.1, 1.0),
    ("none", "he", 0.05, 1.0),
]


def digits(train: int, test: int) -> ts.data.Data:
    data = ts.data.load("mnist-12k")
    parts = []
    for source, count in ((data.train, train), (data.test, test)):
        small = F.avg_pool2d(source.images[:count].float(), 2).round().byte()
        parts += [small, source.labels[:count]]
    return ts.data.from_tensors(*parts, classes=data.classes, name="mnist-12k at 14 × 14")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--train", type=int, default=10_000)
    parser.add_argument("--test", type=int, default=2_000)
    parser.add_argument("--seeds", type=int, default=1)
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    data = digits(options.train, options.test)
    rows = []
    for inputs, start, lr, largest in CASES:
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            model = create_model("nin-mnist")
            if start == "he":
                he_init(model)
            result = ts.fit(
                model,
                preprocess(data, inputs),
                epochs=options.epochs,
                batch_size=128,
                optimizer=NINOptimizer(lr, 1e-4),
                max_grad_norm=largest,
                schedule="constant",
                probe=200,
                seed=seed,
                precision="bf16",
                channels_last=True,
            )
            errors = [round(e, 1) for e in result.history.column("error")]
            case = {"inputs": inputs, "initialisation": start, "lr": lr, "max_grad_norm": largest}
            rows.append(case | {"seed": seed, "errors": errors})
            print(
                f"{inputs:<5} {start:<9} lr {lr} clipped to {largest} seed {seed}: {errors}",
                flush=True,
            )
    write(options.out, options, data=data.note, rows=rows)


if __name__ == "__main__":
    main()
