"""Iterations and seconds to SGD's final error, arm by arm, tuned on a validation split.

    python benchmarks/convergence/run.py --data mnist-12k --out benchmarks/results/convergence-mnist12k

Every cell (arm, choice, seed) is one file in the folder, so that an interrupted benchmark goes on where it
stopped. First each arm is tuned with one seed on 20 % of the training set, which is held out: learning rate
and weight decay over a grid, then the share of the run in which the learning rate rises. Then it is
trained with its choice on the whole training set and looked at on the test set, with several seeds.
`--choices` takes the choices of an earlier benchmark instead, on other data. The test set takes no part in
any choice. All arms keep an average of the weights beside, which is evaluated but trains nothing, so that
each arm is there with and without averaging.

With `--fixed sgd=0.4:5e-4:0.25:12 muon=0.05:5e-4:0.25:5` (learning rate, decay, warm-up, epochs) these
arms, and those that take theirs from them, are not tuned. Where layers rest, the share of the backward
passes' operations that this saved is told.

Seconds are training and support strokes, evaluation left out. With `--cpu-seconds` they are seconds of one
thread's processor time, which other work on the machine hardly moves.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from arms import ARMS, Arm
from torch.utils.flop_counter import FlopCounterMode

import twostroke as ts
from twostroke.models import create_model
from twostroke.report import draw_curves
from twostroke.report.table import to_target
from twostroke.training.rest import Rest
from twostroke.training.run import versions


class Choice(NamedTuple):
    lr: float
    decay: float
    warm: float
    epochs: int

    def __str__(self) -> str:
        return f"lr {self.lr:g}, decay {self.decay:g}, warm {self.warm:g}, {self.epochs} epochs"


def train(options, arm: Arm, data, choice: Choice, seed: int) -> dict:
    torch.manual_seed(seed)
    model = create_model(options.model, in_channels=data.train.shape[0], classes=len(data.classes))
    result = ts.fit(
        model,
        data,
        alternation=arm.alternation(choice.epochs),
        optimizer=arm.optimizer,
        lr=choice.lr,
        weight_decay=choice.decay,
        warm=choice.warm,
        epochs=choice.epochs,
        batch_size=options.batch_size,
        average=options.average or None,
        visits=arm.visits,
        rest=arm.rest,
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


def cell(options, folder: Path, name: str, arm: Arm, data, choice: Choice, seed: int) -> dict:
    told = f"lr{choice.lr:g}-wd{choice.decay:g}-warm{choice.warm:g}-{choice.epochs}ep-seed{seed}"
    file = folder / f"{name.replace(' ', '_')}-{told}.json"
    if not file.exists():
        print(f"  {folder.name}: {file.stem} ...", end="", flush=True)
        result = train(options, arm, data, choice, seed)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(result))
        partial.replace(file)
        print(f" {score(result):.2f} %", flush=True)
    return json.loads(file.read_text())


def score(result: dict) -> float:
    """Final live error, in %; a run that diverged counts as chance."""
    return result["history"][-1]["error"] if result["status"] == "FINISHED" else 90.0


def epochs_of(options, arm: Arm) -> int:
    return max(1, round((arm.length or 1.0) * options.epochs))


def tune(options, data, name: str, arm: Arm) -> Choice:
    folder = options.out / "tuning"
    folder.mkdir(parents=True, exist_ok=True)
    held_out = data.split_validation(share=0.2, seed=0)
    epochs = epochs_of(options, arm)

    def best(choices: list[Choice]) -> Choice:
        return min(choices, key=lambda c: score(cell(options, folder, name, arm, held_out, c, 0)))

    first, *others = arm.warms
    chosen = best([Choice(*c, first, epochs) for c in itertools.product(arm.lrs, arm.decays)])
    return best([chosen, *(chosen._replace(warm=warm) for warm in others)])


def known(options, name: str, arm: Arm) -> Choice:
    """What an earlier benchmark chose for this arm."""
    rows = json.loads(options.choices.read_text())["rows"]
    row = next((row for row in rows if row["arm"] == name), None)
    if row is None:
        sys.exit(f"{options.choices} has no arm {name!r}")
    return Choice(row["lr"], row["decay"], row["warm"], epochs_of(options, arm))


def interval(differences: list[float]) -> tuple[float, float]:
    """Mean and half-width of the 95 % interval of a paired difference (Student's t)."""
    from scipy import stats

    n = len(differences)
    mean = statistics.fmean(differences)
    if n < 2:
        return mean, math.nan
    half = stats.t.ppf(0.975, n - 1) * statistics.stdev(differences) / math.sqrt(n)
    return mean, float(half)


def history_of(result: dict) -> ts.History:
    return ts.History(ts.EpochRecord(**record) for record in result["history"])


def last(result: dict, key: str) -> float:
    return result["history"][-1][key]


def total(result: dict, key: str) -> float:
    return sum(epoch[key] for epoch in result["history"])


def backward(options, data) -> list[int]:
    """Operations of a backward pass, by how many sites rest."""
    x, y = data.train.batch(torch.arange(2))
    counts = []
    while True:
        model = create_model(options.model, in_channels=x.shape[1], classes=len(data.classes))
        rest = Rest(ts.Settled(), model, x, 1)
        if len(counts) > rest.most:
            return counts
        rest.freeze(len(counts))
        loss = F.cross_entropy(model(x), y)
        with FlopCounterMode(display=False) as counter:
            loss.backward()
        counts.append(counter.get_total_flops())


def saved(result: dict, costs: list[int]) -> float:
    """Share of the backward passes' operations that were not done because layers rested."""
    done = sum(e["visits"] * costs[e["resting"]] for e in result["history"])
    return 1 - done / (total(result, "visits") * costs[0])


def plus(difference: tuple[float, float], digits: int) -> str:
    mean, half = difference
    return f"{mean:+.{digits}f} ± {half:.{digits}f}" if half else "–"


def fixed(text: str) -> tuple[str, Choice]:
    name, _, values = text.partition("=")
    lr, decay, warm, epochs = values.split(":")
    return name, Choice(float(lr), float(decay), float(warm), int(epochs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="mnist-12k")
    parser.add_argument("--model", default="allcnn-mini")
    parser.add_argument("--epochs", type=int, default=12, help="of the reference, SGD")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--average", type=float, default=0.98, help="0 for none")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--augmentation", help="such as flip-shift")
    parser.add_argument("--choices", type=Path, help="a table.json whose choices to take")
    parser.add_argument("--train-examples", type=int, help="use the first so many only")
    parser.add_argument(
        "--fixed", nargs="+", type=fixed, default=[], metavar="ARM=LR:DECAY:WARM:EPOCHS"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cpu-seconds", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.cpu_seconds:
        torch.set_num_threads(1)
        time.perf_counter = time.process_time  # what fit reads the time from
    data = ts.data.load(options.data, augmentation=options.augmentation)
    if options.train_examples:
        kept = torch.arange(options.train_examples)
        note = f"the first {options.train_examples:,} training examples of {data.note}"
        data = ts.data.Data(data.name, data.train.subset(kept), data.test, data.classes, note)
    folder = options.out / "cells"
    folder.mkdir(parents=True, exist_ok=True)
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
    runs = {
        name: [
            cell(options, folder, name, ARMS[name], data, chosen[name], seed)
            for seed in range(options.seeds)
        ]
        for name in options.arms
    }
    report(options, data, chosen, runs)


def report(options, data, chosen, runs) -> None:
    reference = runs["sgd"]
    target = statistics.fmean(score(r) for r in reference)
    costs = backward(options, data)
    rows = []
    for name, results in runs.items():
        errors = [score(r) for r in results]
        keys = ["error", "loss_test"]
        if options.average:
            keys += ["error_average", "loss_average"]
        losses = [r["history"][-1]["loss_test"] for r in results]
        difference, half = interval([e - score(b) for e, b in zip(errors, reference, strict=True)])
        # what alternation itself adds: against the same optimiser, length and seeds without it
        alone = runs.get(ARMS[name].base or name.split(" + ")[0], results)
        own = {
            key: interval(
                [last(r, key) - last(a, key) for r, a in zip(results, alone, strict=True)]
            )
            for key in keys
        }
        hits = [to_target(history_of(r), target) for r in results]
        steps = [hit[1] for hit in hits if hit]
        rows.append(
            {
                "arm": name,
                **chosen[name]._asdict(),
                "steps": results[0]["history"][-1]["steps"],
                "error": statistics.fmean(errors),
                "spread": statistics.stdev(errors) if len(errors) > 1 else math.nan,
                "difference": difference,
                "half_width": half,
                "error_average": statistics.fmean(last(r, "error_average") for r in results)
                if options.average
                else None,
                "loss_test": statistics.fmean(losses),
                "to_own_base": own,
                "resting": [
                    statistics.fmean(sites)
                    for sites in zip(
                        *(history_of(r).column("resting") for r in results), strict=True
                    )
                ],
                "backward_saved": statistics.fmean(saved(r, costs) for r in results),
                "visits": statistics.fmean(total(r, "visits") for r in results),
                "stroke_visits": statistics.fmean(total(r, "stroke_visits") for r in results),
                "seconds": statistics.fmean(
                    sum(e["seconds"] for e in r["history"]) for r in results
                ),
                "stroke_seconds": statistics.fmean(
                    sum(e["stroke_seconds"] for e in r["history"]) for r in results
                ),
                "steps_to_target": statistics.median(steps) if steps else None,
                "reached": f"{len(steps)}/{len(results)}",
                "area": statistics.fmean(
                    statistics.fmean(e["error"] for e in r["history"]) for r in results
                ),
            }
        )
    lines = [
        f"{data.note}; {options.model}; {options.seeds} seeds; target: SGD's mean final error, "
        f"{target:.2f} %",
        "",
        "Differences are paired by seed, with 95 % intervals. The last two columns are against the same "
        "optimiser and length without what follows the +. Saved is the share of the operations of backward "
        "passes.",
        "",
        "| arm | lr, decay, warm | steps | thousands of images trained, swept | error % (sd) | − SGD "
        "| of the average % | seconds | saved % | steps to target (reached) | error, added "
        "| test loss (added) |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r['arm']} | {r['lr']:g}, {r['decay']:g}, {r['warm']:g} | {r['steps']} | "
            f"{r['visits'] / 1e3:.0f}, {r['stroke_visits'] / 1e3:.0f} | {r['error']:.2f} "
            f"({r['spread']:.2f}) | {r['difference']:+.2f} ± {r['half_width']:.2f} | "
            f"{'–' if r['error_average'] is None else format(r['error_average'], '.2f')} | "
            f"{r['seconds']:.0f} | {100 * r['backward_saved']:.0f} | "
            f"{r['steps_to_target'] or '–'} ({r['reached']}) | "
            f"{plus(r['to_own_base']['error'], 2)} | "
            f"{r['loss_test']:.4f} ({plus(r['to_own_base']['loss_test'], 4)}) |"
        )
    text = "\n".join(lines) + "\n"
    print("\n" + text)
    (options.out / "table.md").write_text(text)
    kept = {k: v for k, v in vars(options).items() if k not in ("out", "choices")}
    document = {"versions": versions(), "options": kept, "target": target, "rows": rows}
    (options.out / "table.json").write_text(json.dumps(document, indent=2) + "\n")
    first = {name: history_of(results[0]) for name, results in runs.items()}
    draw_curves(first, options.out / "curves.png", title=data.note, note="seed 0 of each arm")


if __name__ == "__main__":
    main()
