"""Iterations and seconds to SGD's final error, arm by arm, tuned on a validation split.

    python benchmarks/convergence.py --data mnist-12k --out FOLDER

Every cell (arm, choice, seed) is one file in the folder, so that an interrupted benchmark goes on where it
stopped; a cell of other settings is refused. First each arm is tuned on 20 % of the training set, which is
held out, by the mean error of `--tuning-seeds`: learning rate and weight decay over a grid, which grows where
the best lies at its edge, then the share of the run in which the learning rate rises. Then it is trained with
its choice on the whole training set and looked at on the test set, with several seeds. Lengths are fixed, see
`convergence_arms.py`.
`--choices` takes the choices of an earlier benchmark instead, on other data. The test set takes no part in
any choice. All arms keep an average of the weights beside, which is evaluated but trains nothing, so that
each arm is there with and without averaging.

With `--fixed sgd=0.4:5e-4:0.25:12 muon=0.05:5e-4:0.25:5` (learning rate, decay, warm-up, epochs) these
arms, and those that take theirs from them, are not tuned.

Seconds are training and support strokes, evaluation left out. With `--cpu-seconds` they are seconds of one
thread's processor time, which other work on the machine hardly moves.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
import torch.nn.functional as F

import twostroke as ts
from common import first_examples, kept_cell, parser_of
from convergence_arms import ARMS, Arm, needs
from convergence_table import Choice, report, score
from twostroke.models import create_model


def train(options, arm: Arm, data, choice: Choice, seed: int) -> dict:
    torch.manual_seed(seed)
    model = create_model(options.model, in_channels=data.train.shape[0], classes=len(data.classes))
    result = ts.fit(
        model,
        data,
        alternation=arm.alternation(choice.epochs),
        loss=partial(F.cross_entropy, label_smoothing=arm.smoothing),
        optimizer=arm.optimizer,
        lr=choice.lr,
        weight_decay=choice.decay,
        warmup_share=choice.warm,
        epochs=choice.epochs,
        batch_size=options.batch_size,
        ema_decay=options.ema_decay or None,
        seed=seed,
        device=options.device,
        probe=500,
    )
    return {
        "status": result.status.name,
        **choice._asdict(),
        "seed": seed,
        "history": [asdict(record) for record in result.history],
    }


def settings_of(options, arm: Arm, data, choice: Choice) -> dict:
    """What a cell depends on, beside its choice and seed."""
    return {
        "data": f"{data.name}, {data.note}, {len(data.train)} + {len(data.test)}",
        "augmentation": options.augmentation,
        "model": options.model,
        "batch_size": options.batch_size,
        "ema_decay": options.ema_decay,
        "cpu_seconds": options.cpu_seconds,
        "optimizer": arm.optimizer,
        "alternation": repr(arm.alternation(choice.epochs)),
        **({"smoothing": arm.smoothing} if arm.smoothing else {}),
    }


def cell(options, folder: Path, name: str, arm: Arm, data, choice: Choice, seed: int) -> dict:
    told = f"lr{choice.lr:g}-wd{choice.decay:g}-warm{choice.warm:g}-{choice.epochs}ep-seed{seed}"
    file = folder / f"{name.replace(' ', '_')}-{told}.json"
    settings = settings_of(options, arm, data, choice)

    def make() -> dict:
        return train(options, arm, data, choice, seed) | {"settings": settings}

    result = kept_cell(file, make)
    for key, value in settings.items():
        found = result.get("settings", {}).get(key)
        if found != value:
            sys.exit(f"{file} has {key} {found}, not {value}: use another --out")
    return result


def epochs_of(options, arm: Arm) -> int:
    return max(1, round((arm.length or 1.0) * options.epochs))


def tune(options, data, name: str, arm: Arm) -> Choice:
    folder = options.out / "tuning"
    folder.mkdir(parents=True, exist_ok=True)
    held_out = data.split_validation(share=0.2, seed=0)
    epochs = epochs_of(options, arm)

    def mean(choice: Choice) -> float:
        seeds = range(options.tuning_seeds)
        return fmean(score(cell(options, folder, name, arm, held_out, choice, s)) for s in seeds)

    def best(choices: list[Choice]) -> Choice:
        return min(choices, key=mean)

    first, *others = arm.warms
    grid = [Choice(*c, first, epochs) for c in itertools.product(arm.lrs, arm.decays)]
    chosen = best(grid)
    while beyond := [c for c in neighbours(arm, chosen) if c not in grid]:
        grid += beyond
        chosen = best([chosen, *beyond])
    return best([chosen, *(chosen._replace(warm=warm) for warm in others)])


def neighbours(arm: Arm, choice: Choice) -> list[Choice]:
    """The next learning rates and decays on both sides; outside the grid those in its proportions."""
    found = []
    for key, values in (("lr", arm.lrs), ("decay", arm.decays)):
        if len(values) < 2:
            continue
        value = getattr(choice, key)
        inner = sorted(values)
        lower = [v for v in inner if v < value] or [value * inner[0] / inner[1]]
        upper = [v for v in inner if v > value] or [value * inner[-1] / inner[-2]]
        found += [choice._replace(**{key: float(f"{v:.3g}")}) for v in (lower[-1], upper[0])]
    return found


def known(options, name: str, arm: Arm) -> Choice:
    """What an earlier benchmark chose for this arm."""
    rows = json.loads(options.choices.read_text())["rows"]
    row = next((row for row in rows if row["arm"] == name), None)
    if row is None:
        sys.exit(f"{options.choices} has no arm {name!r}")
    return Choice(row["lr"], row["decay"], row["warm"], epochs_of(options, arm))


def choose(options, data) -> dict[str, Choice]:
    """Every arm's choice: given, another arm's, an earlier benchmark's, or tuned."""
    chosen = dict(options.fixed)
    for name in options.arms:
        arm = ARMS[name]
        if name in chosen:
            pass
        elif arm.tuned_as is not None:
            chosen[name] = chosen[arm.tuned_as]
            if arm.length is not None:
                chosen[name] = chosen[name]._replace(epochs=epochs_of(options, arm))
        elif options.choices is not None:
            chosen[name] = known(options, name, arm)
        else:
            chosen[name] = tune(options, data, name, arm)
        print(f"{name}: {chosen[name]}", flush=True)
    return chosen


def check(options) -> None:
    """End with a message where the arms that were asked for do not stand together."""
    for name in options.arms:
        if name not in ARMS:
            sys.exit(f"no arm {name!r}: there are {', '.join(map(repr, ARMS))}")
    for name in options.draw or ():
        if name not in options.arms:
            sys.exit(f"{name!r} is to be drawn: add it to --arms")
    for name in options.arms:
        if missing := needs(name) - set(options.arms):
            text = ", ".join(map(repr, sorted(missing)))
            sys.exit(f"{name!r} is compared with {text}: add them to --arms")


def fixed(text: str) -> tuple[str, Choice]:
    name, _, values = text.partition("=")
    lr, decay, warm, epochs = values.split(":")
    return name, Choice(float(lr), float(decay), float(warm), int(epochs))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--data", default="mnist-12k")
    parser.add_argument("--model", default="allcnn-mini")
    parser.add_argument("--epochs", type=int, default=12, help="of the reference, SGD")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--ema-decay", type=float, default=0.98, help="0 for no average")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tuning-seeds", type=int, default=1)
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--draw", nargs="+", help="arms of the picture, by default all")
    parser.add_argument("--augmentation", help="such as flip-shift")
    parser.add_argument("--choices", type=Path, help="a table.json whose choices to take")
    parser.add_argument("--train-examples", type=int, help="use the first so many only")
    parser.add_argument(
        "--fixed", nargs="+", type=fixed, default=[], metavar="ARM=LR:DECAY:WARM:EPOCHS"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cpu-seconds", action="store_true")
    parser.set_defaults(out=Path("convergence"))
    options = parser.parse_args(arguments)
    check(options)
    return options


def main() -> None:
    options = parse()
    if options.cpu_seconds:
        torch.set_num_threads(1)
        time.perf_counter = time.process_time  # what fit reads the time from
    data = ts.data.load(options.data, augmentation=options.augmentation)
    if options.train_examples:
        data = first_examples(data, options.train_examples)
    folder = options.out / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    chosen = choose(options, data)
    runs = {
        name: [
            cell(options, folder, name, ARMS[name], data, chosen[name], seed)
            for seed in range(options.seeds)
        ]
        for name in options.arms
    }
    report(options, data, chosen, runs)


if __name__ == "__main__":
    main()
