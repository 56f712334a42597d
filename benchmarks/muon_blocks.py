"""Whether Muon in blocks learns as it does on whole matrices: python benchmarks/muon_blocks.py --out FILE.json.

Trains one model from several seeds with blocks of several sizes, all else alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

import twostroke as ts
from common import add_device, first_examples, mean_sd, parser_of, write
from twostroke.models import create_model


def train(options: argparse.Namespace, data: ts.data.Data, block: int, seed: int) -> dict:
    torch.manual_seed(seed)
    channels = data.train.shape[0]
    model = create_model(options.model, in_channels=channels, classes=len(data.classes))
    result = ts.fit(
        model,
        data,
        optimizer=lambda weights: ts.solvers.Muon(
            weights, options.lr, weight_decay=options.decay, block=block
        ),
        epochs=options.epochs,
        batch_size=100,
        seed=seed,
        device=options.device,
        probe=500,
    )
    last = result.history[-1]
    return {
        "error": last.error,
        "loss_test": last.loss_test,
        "loss_train": last.loss_train,
        "seconds": last.seconds,
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--data", default="mnist-12k")
    parser.add_argument("--train-examples", type=int, help="use the first so many only")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--blocks", type=int, nargs="+", default=[4096, 64])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--decay", type=float, default=0.03)
    add_device(parser)
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    data = ts.data.load(options.data)
    if options.train_examples:
        data = first_examples(data, options.train_examples)
    results: dict[int, list[dict]] = {block: [] for block in options.blocks}
    for seed in range(options.seeds):  # in turns, so that a run that is cut short is balanced
        for block in options.blocks:
            results[block].append(train(options, data, block, seed))
            write(options.out, options, results=results)
    for block, runs in results.items():
        means = {name: mean_sd([run[name] for run in runs], 4) for name in runs[0]}
        print(f"blocks of {block:>5}: " + ", ".join(f"{k} {v}" for k, v in means.items()))


if __name__ == "__main__":
    main()
