"""The table of the convergence benchmark: what each arm came to, seed by seed and paired."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import fields, replace
from typing import NamedTuple

from common import mean_sd, write
from convergence_arms import base_of
from twostroke.report import draw_curves
from twostroke.report.table import to_target
from twostroke.runs import EpochRecord, History


class Choice(NamedTuple):
    lr: float
    decay: float
    warm: float  # share of the run in which the learning rate rises
    epochs: int

    def __str__(self) -> str:
        return f"lr {self.lr:g}, decay {self.decay:g}, warm {self.warm:g}, {self.epochs} epochs"


def score(result: dict) -> float:
    """Final live error, in %; a run that diverged counts as chance."""
    return last(result, "error") if result["status"] == "FINISHED" else 90.0


def tuning_of(options) -> list[dict]:
    """All cells that choices were made by, best first."""
    cells = [json.loads(f.read_text()) for f in sorted((options.out / "tuning").glob("*.json"))]
    told = [
        {**{k: c["settings"][k] for k in ("optimizer", "alternation")}, "error": score(c)}
        | {key: c[key] for key in Choice._fields}
        for c in cells
    ]
    return sorted(told, key=lambda c: (c["optimizer"], c["alternation"], c["epochs"], c["error"]))


def interval(differences: list[float]) -> tuple[float, float]:
    """Mean and half-width of the 95 % interval of a paired difference (Student's t)."""
    n = len(differences)
    mean = statistics.fmean(differences)
    if n < 2:
        return mean, math.nan
    from scipy import stats

    half = stats.t.ppf(0.975, n - 1) * statistics.stdev(differences) / math.sqrt(n)
    return mean, float(half)


def paired(values: list[float], others: list[float]) -> tuple[float, float]:
    """Mean difference by seed and the half-width of its interval."""
    return interval([a - b for a, b in zip(values, others, strict=True)])


def history_of(result: dict) -> History:
    return History(EpochRecord(**record) for record in result["history"])


def mean_history(results: list[dict]) -> History:
    """Epoch by epoch the mean over seeds of whatever is a real number in all of them."""
    epochs = []
    for records in zip(*map(history_of, results), strict=False):  # as far as all of them came
        values = {f.name: [getattr(r, f.name) for r in records] for f in fields(records[0])}
        means = {
            name: statistics.fmean(some)
            for name, some in values.items()
            if all(isinstance(value, float) for value in some)
        }
        epochs.append(replace(records[0], **means))
    return History(epochs)


def last(result: dict, key: str) -> float:
    """At the end; NaN where a run diverged in its first epoch."""
    return result["history"][-1][key] if result["history"] else math.nan


def total(result: dict, key: str) -> float:
    return sum(epoch[key] for epoch in result["history"])


def plus(difference: tuple[float, float] | None, digits: int) -> str:
    if difference is None:
        return "–"
    mean, half = difference
    return f"{mean:+.{digits}f} ± {half:.{digits}f}"


def row_of(name: str, choice: Choice, runs: dict[str, list[dict]], target: float) -> dict:
    """All figures of an arm, seed by seed."""
    results, base = runs[name], runs[base_of(name)]
    errors = [score(r) for r in results]
    keys = ["error", "loss_test"]
    if all(last(r, "error_average") is not None for r in results):
        keys += ["error_average", "loss_average"]
    hits = [to_target(history_of(r), target) for r in results]
    return {
        "arm": name,
        "base": base_of(name),
        **choice._asdict(),
        "steps": last(results[0], "steps"),
        **{f"{key}_by_seed": [last(r, key) for r in results] for key in keys},
        "diverged": sum(r["status"] != "FINISHED" for r in results),
        "error": statistics.fmean(errors),
        "spread": statistics.stdev(errors) if len(errors) > 1 else math.nan,
        "to_sgd": None if name == "sgd" else paired(errors, [score(r) for r in runs["sgd"]]),
        # what it adds: same seeds, the base's choices
        "to_own_base": {
            key: None
            if base is results
            else paired([last(r, key) for r in results], [last(r, key) for r in base])
            for key in keys
        },
        "stroke_visits": statistics.fmean(total(r, "stroke_visits") for r in results),
        "seconds_by_seed": [total(r, "seconds") for r in results],
        "stroke_seconds_by_seed": [total(r, "stroke_seconds") for r in results],
        "to_target_by_seed": [
            hit and dict(zip(("epochs", "steps", "seconds"), hit, strict=True)) for hit in hits
        ],
        "errors_by_epoch_by_seed": [[e["error"] for e in r["history"]] for r in results],
    }


def line_of(row: dict) -> str:
    hits = [hit for hit in row["to_target_by_seed"] if hit]
    where = "–"
    if hits:
        steps, seconds = (statistics.median(h[key] for h in hits) for key in ("steps", "seconds"))
        where = f"{steps:.0f}, {seconds:.0f}"
    average = row.get("error_average_by_seed")
    failed = f", {row['diverged']} diverged" if row["diverged"] else ""
    return (
        f"| {row['arm']} | {row['lr']:g}, {row['decay']:g}, {row['warm']:g} | {row['steps']} | "
        f"{row['stroke_visits'] / 1e3:.0f} | {row['error']:.2f} ({row['spread']:.2f}){failed} | "
        f"{plus(row['to_sgd'], 2)} | {mean_sd(average) if average else '–'} | "
        f"{mean_sd(row['seconds_by_seed'], 0)} | "
        f"{where} ({len(hits)}/{len(row['to_target_by_seed'])}) | "
        f"{plus(row['to_own_base']['error'], 2)} | "
        f"{statistics.fmean(row['loss_test_by_seed']):.4f} ({plus(row['to_own_base']['loss_test'], 4)}) |"
    )


HEAD = """
Mean (standard deviation). Differences are paired by seed, with 95 % intervals (Student's t). The last two
columns are what an arm adds to its base. To target: medians of the seeds that reached it.

| arm | lr, decay, warm | steps | thousands of images swept | error % | − SGD | of the average % | seconds \
| to target: steps, seconds (reached) | error, added | test loss (added) |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def report(options, data, chosen: dict[str, Choice], runs: dict[str, list[dict]]) -> None:
    """Write table.md, table.json and curves.png."""
    target = statistics.fmean(score(r) for r in runs["sgd"])
    rows = [row_of(name, chosen[name], runs, target) for name in runs]
    about = f"{data.note}; {options.model}; {options.seeds} seeds"
    text = f"{about}; target: SGD's mean final error, {target:.2f} %\n{HEAD}"
    text += "\n".join(map(line_of, rows)) + "\n"
    print("\n" + text)
    (options.out / "table.md").write_text(text)
    curves = {name: mean_history(runs[name]) for name in options.draw or options.arms}
    draw_curves(curves, options.out / "curves.png", title=data.note, note="means over seeds")
    file = options.out / "table.json"
    write(file, options, target=target, rows=rows, tuning=tuning_of(options))
