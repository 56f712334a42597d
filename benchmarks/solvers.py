"""Is a better weight stroke worth having? Held objective and live error by passes and by seconds.

    python benchmarks/solvers.py --out FOLDER

One weight stroke on real digits, from the same weights and under the same support for every method. A
network of two convolutions and a linear layer is trained for two live epochs on 1,600 of the first 2,000
training digits of mnist-12k; 400 are the validation split. Then every method has the same number of passes
to minimise cross-entropy of the held network plus weight decay. Methods that go by steps take batches of 100
and lower their learning rate linearly to 0. Seconds are those of the CPU.

Every learning rate (and the price of the augmented Lagrangian) comes from the grid below, chosen with seed 0
on the validation split, which no method trains on; the test set of 2,000 takes no part in a choice. Each cell
is one file in `FOLDER/cells`, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import twostroke as ts
from common import first_examples, kept_cell, parser_of, write
from twostroke.solvers import LBFGS, AugmentedLagrangian, BlockSweep, HeldLoss

SEEDS = 3
PASSES = 40
DECAY = 5e-4
GRID = {
    "sgd": (0.01, 0.03, 0.1, 0.3),
    "adamw": (0.001, 0.003, 0.01, 0.03),
    "muon": (0.003, 0.01, 0.03, 0.1),
    "blocks": (99,),
    "lbfgs": (10,),
    "lagrangian": (0.01, 0.03, 0.1, 1.0, 10.0),
}
SETTING = {
    "sgd": "lr", "adamw": "lr", "muon": "lr", "blocks": "sweeps", "lbfgs": "history", "lagrangian": "rho",
}  # fmt: skip
STEPWISE = ("sgd", "adamw", "muon")


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(784, 10),
    )  # fmt: skip


def digits() -> tuple[ts.data.Data, ts.data.Examples]:
    """Training and test set, and the validation split."""
    few = first_examples(ts.data.load("mnist-12k"), 2000)
    split = few.split_validation(share=0.2, seed=0)
    return ts.data.Data("mnist-2k", split.train, few.test), split.test


class Trace:
    """Looks at a run under way, with the clock stopped."""

    def __init__(self, model, support, x, y, validation, test):
        self.model, self.support, self.x, self.y = model, support, x, y
        self.held = HeldLoss.of(model, support, x, y, weight_decay=DECAY)
        self.sets = {"validation": validation, "test": test}
        self.points, self.seconds, self.begun = [], 0.0, None

    def start(self):
        self.look(0.0)
        self.begun = time.process_time()

    def look(self, passes: float) -> None:
        if self.begun is not None:
            self.seconds += time.process_time() - self.begun
        with self.held.solving():
            objective = self.held.value()
            live = float(F.cross_entropy(self.model(self.x), self.y)) + self.held.decay()
            errors = {
                name: 100 * float((self.model(x).argmax(1) != y).float().mean())
                for name, (x, y) in self.sets.items()
            }
            drift = float(self.support.drift(ts.record(self.model, self.x)))
        self.points.append(
            {
                "passes": passes,
                "seconds": self.seconds,
                "held": objective,
                "live": live,
                "drift": drift,
            }
            | errors
        )
        self.begun = time.process_time()


def tensors(source) -> tuple[torch.Tensor, torch.Tensor]:
    return source.batch(torch.arange(len(source)))


def stroke(method: str, value: float, seed: int, data, validation) -> dict:
    model = network(seed)
    ts.fit(
        model, data, epochs=2, batch_size=100, lr=0.1, schedule="constant", seed=seed, device="cpu"
    )
    x, y = tensors(data.train)
    support = ts.record(model, x)
    trace = Trace(model, support, x, y, tensors(validation), tensors(data.test))
    trace.start()
    if method in STEPWISE:
        by_steps(method, value, seed, model, support, x, y, trace)
    else:
        by_solver(method, value, model, support, x, y, trace)
    return {"method": method, "value": value, "seed": seed, "points": trace.points}


def by_steps(method, lr, seed, model, support, x, y, trace, batch=100):
    weights = list(model.parameters())
    if method == "sgd":
        optimizer = torch.optim.SGD(weights, lr, momentum=0.9, nesterov=True)
    elif method == "adamw":
        optimizer = torch.optim.AdamW(weights, lr, weight_decay=0.0)
    else:
        optimizer = ts.solvers.Muon(weights, lr)
    steps = PASSES * len(x) // batch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1 - n / steps)
    draw = torch.Generator().manual_seed(seed)
    done = 0
    for epoch in range(PASSES):
        for part in torch.randperm(len(x), generator=draw).split(batch):
            with ts.hold(model, support[part]):
                loss = F.cross_entropy(model(x[part]), y[part])
            loss = loss + DECAY / 2 * sum(w.square().sum() for w in weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
            if epoch == 0 and done % 4 == 0:
                trace.look(done * batch / len(x))
        if epoch % 2:
            trace.look(epoch + 1)


class Spent(Exception):
    """The passes are spent."""


class Watched(HeldLoss):
    """Looks at the run after each move of the weights, and ends it when the passes are spent."""

    trace: Trace

    def look(self, names=None, *, at=None):
        if self.passes >= PASSES:
            raise Spent
        return super().look(names, at=at)

    def put(self, values):
        super().put(values)
        if self.passes <= PASSES:
            self.trace.look(self.passes)


def by_solver(method, value, model, support, x, y, trace):
    problem = Watched.of(model, support, x, y, weight_decay=DECAY, chunk=100)
    problem.trace = trace
    if method == "blocks":
        solver = BlockSweep(sweeps=value)
    elif method == "lbfgs":
        solver = LBFGS(steps=PASSES, history=value)
    else:
        solver = AugmentedLagrangian(steps=99, rho=value)
    with suppress(Spent):
        solver.solve(problem)


def pick(points: list[dict]) -> dict:
    """The point with the lowest live validation error; the earliest of those."""
    return min(points, key=lambda p: (p["validation"], p["passes"]))


def spread(values: list[float]) -> list[float]:
    return [statistics.fmean(values), statistics.stdev(values)]


def run_strokes(folder: Path) -> tuple[list[dict], dict]:
    data, validation = digits()
    rows, kept = [], {}
    for method, grid in GRID.items():

        def one(value, seed, method=method):
            name = f"{method}-{value:g}-seed{seed}"
            return kept_cell(
                folder / f"{name}.json", lambda: stroke(method, value, seed, data, validation)
            )

        tried = {value: one(value, 0)["points"] for value in grid}
        lowest = min(grid, key=lambda v: nan_last(tried[v][-1]["held"]))
        live = min(grid, key=lambda v: (pick(tried[v])["validation"], pick(tried[v])["held"]))
        runs = [one(lowest, seed)["points"] for seed in range(SEEDS)]
        best = [pick(one(live, seed)["points"]) for seed in range(SEEDS)]
        kept[method] = runs
        rows.append(
            {
                "method": method,
                "setting": SETTING[method],
                "for_held": lowest,
                "held_start": spread([r[0]["held"] for r in runs]),
                "held": spread([r[-1]["held"] for r in runs]),
                "seconds": spread([r[-1]["seconds"] for r in runs]),
                "drift": spread([r[-1]["drift"] for r in runs]),
                "error_start": spread([r[0]["test"] for r in runs]),
                "error_end": spread([r[-1]["test"] for r in runs]),
                "for_live": live,
                "error_best": spread([p["test"] for p in best]),
                "passes_best": spread([p["passes"] for p in best]),
                "drift_best": spread([p["drift"] for p in best]),
            }
        )
    return rows, kept


def nan_last(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def pm(pair: list[float], digits: int = 2) -> str:
    return f"{pair[0]:.{digits}f} ± {pair[1]:.{digits}f}"


def stroke_table(rows: list[dict]) -> str:
    lines = [
        f"One stroke of {PASSES} passes; start: held objective {pm(rows[0]['held_start'], 4)}, live test "
        f"error {pm(rows[0]['error_start'])} %; mean ± standard deviation of {SEEDS} seeds.",
        "",
        "| method | chosen for held | held objective | CPU seconds | drift % | live error at the end % "
        "| chosen for live | best stroke: passes | its drift % | its live error % |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r['method']} | {r['setting']} {r['for_held']:g} | {pm(r['held'], 4)} | "
            f"{pm(r['seconds'], 1)} | {100 * r['drift'][0]:.1f} | {pm(r['error_end'])} | {r['for_live']:g} | "
            f"{pm(r['passes_best'], 1)} | {100 * r['drift_best'][0]:.1f} | {pm(r['error_best'])} |"
        )
    return "\n".join(lines) + "\n"


def draw(kept: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained", sharey="row")
    for method, runs in kept.items():
        for n, run in enumerate(runs):
            style = {"color": f"C{list(kept).index(method)}", "lw": 1.3, "alpha": 0.8}
            label = method if n == 0 else None
            for column, by in enumerate(("passes", "seconds")):
                across = [p[by] for p in run]
                axes[0, column].plot(across, [p["held"] for p in run], label=label, **style)
                axes[1, column].plot(across, [p["test"] for p in run], label=label, **style)
    for column, by in enumerate(("passes over the data", "CPU seconds")):
        axes[1, column].set_xlabel(by)
        for row in (0, 1):
            axes[row, column].set_yscale("log")
            axes[row, column].grid(alpha=0.3)
        axes[1, column].set_yticks(ticks := [8, 10, 15, 20, 30], [str(t) for t in ticks])
        axes[1, column].minorticks_off()
    axes[0, 0].set_ylabel("held objective")
    axes[1, 0].set_ylabel("live test error, %")
    axes[0, 1].legend(fontsize=8)
    figure.suptitle(
        "One weight stroke, three seeds, settings chosen for the held objective", fontsize=11
    )
    figure.savefig(path, dpi=80)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.set_defaults(out=Path("solvers"))
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    cells = options.out / "cells"
    cells.mkdir(parents=True, exist_ok=True)
    rows, kept = run_strokes(cells)
    draw(kept, options.out / "stroke.png")
    (options.out / "stroke.md").write_text(text := stroke_table(rows))
    print("\n" + text)
    file = options.out / "stroke.json"
    write(file, options, passes=PASSES, weight_decay=DECAY, grid=GRID, stroke=rows)


if __name__ == "__main__":
    main()
