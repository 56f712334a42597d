"""The table of the convergence benchmark: what each arm came to, seed by seed and paired."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import fields, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from arms import ARMS
from torch.utils.flop_counter import FlopCounterMode
from twostroke.training.rest import Rest
from twostroke.training.run import versions

import twostroke as ts
from twostroke.models import create_model
from twostroke.report import draw_curves
from twostroke.report.table import to_target


class Choice(NamedTuple):
    lr: float
    decay: float
    warm: float
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
    from scipy import stats

    n = len(differences)
    mean = statistics.fmean(differences)
    if n < 2:
        return mean, math.nan
    half = stats.t.ppf(0.975, n - 1) * statistics.stdev(differences) / math.sqrt(n)
    return mean, float(half)


def paired(values: list[float], others: list[float]) -> tuple[float, float]:
    """Mean difference by seed and the half-width of its interval."""
    return interval([a - b for a, b in zip(values, others, strict=True)])


def history_of(result: dict) -> ts.History:
    return ts.History(ts.EpochRecord(**record) for record in result["history"])


def mean_history(results: list[dict]) -> ts.History:
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
    return ts.History(epochs)


def last(result: dict, key: str) -> float:
    """At the end; NaN where a run diverged in its first epoch."""
    return result["history"][-1][key] if result["history"] else math.nan


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
    return 1 - done / (total(result, "visits") * costs[0]) if done else math.nan


def plus(difference: tuple[float, float] | None, digits: int) -> str:
    if difference is None:
        return "–"
    mean, half = difference
    return f"{mean:+.{digits}f} ± {half:.{digits}f}"


def mean_sd(values: list[float], digits: int) -> str:
    """Mean and standard deviation over seeds."""
    spread = f" ({statistics.stdev(values):.{digits}f})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


def base_of(name: str) -> str:
    """The arm that this one adds something to; itself where it adds nothing."""
    return ARMS[name].base or name.split(" + ")[0]


def report(options, data, chosen, runs) -> None:
    reference = runs["sgd"]
    target = statistics.fmean(score(r) for r in reference)
    costs = backward(options, data)
    rows = []
    for name, results in runs.items():
        errors = [score(r) for r in results]
        base = runs[base_of(name)]
        keys = ["error", "loss_test"] + ["error_average", "loss_average"] * bool(options.average)
        hits = [to_target(history_of(r), target) for r in results]
        seconds = [total(r, "seconds") for r in results]
        rows.append(
            {
                "arm": name,
                "base": base_of(name),
                **chosen[name]._asdict(),
                "steps": last(results[0], "steps"),
                **{f"{key}_by_seed": [last(r, key) for r in results] for key in keys},
                "diverged": sum(r["status"] != "FINISHED" for r in results),
                "error": statistics.fmean(errors),
                "spread": statistics.stdev(errors) if len(errors) > 1 else math.nan,
                "to_sgd": None if name == "sgd" else paired(errors, [score(r) for r in reference]),
                # what it adds: same seeds, the base's choices
                "to_own_base": {
                    key: None
                    if base is results
                    else paired([last(r, key) for r in results], [last(r, key) for r in base])
                    for key in keys
                },
                "resting": [
                    statistics.fmean(sites)
                    for sites in zip(
                        *(history_of(r).column("resting") for r in results), strict=True
                    )
                ]
                if not any(r["status"] != "FINISHED" for r in results)
                else None,
                "backward_saved": statistics.fmean(saved(r, costs) for r in results),
                "visits": statistics.fmean(total(r, "visits") for r in results),
                "stroke_visits": statistics.fmean(total(r, "stroke_visits") for r in results),
                "seconds_by_seed": seconds,
                "stroke_seconds_by_seed": [total(r, "stroke_seconds") for r in results],
                "to_target_by_seed": [
                    hit and dict(zip(("epochs", "steps", "seconds"), hit, strict=True))
                    for hit in hits
                ],
                "area_by_seed": [
                    statistics.fmean(e["error"] for e in r["history"]) if r["history"] else math.nan
                    for r in results
                ],
                "errors_by_epoch_by_seed": [[e["error"] for e in r["history"]] for r in results],
            }
        )
    lines = [
        f"{data.note}; {options.model}; {options.seeds} seeds; target: SGD's mean final error, "
        f"{target:.2f} %",
        "",
        "Mean (standard deviation). Differences are paired by seed, with 95 % intervals (Student's t). "
        "The last two columns are what an arm adds to its base. To target: medians of the seeds that "
        "reached it. Saved is the share of the operations of backward passes.",
        "",
        "| arm | lr, decay, warm | steps | thousands of images trained, swept | error % | − SGD "
        "| of the average % | seconds | saved % | to target: steps, seconds (reached) | error, added "
        "| test loss (added) |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        hits = [hit for hit in r["to_target_by_seed"] if hit]
        reached = f"{len(hits)}/{len(r['to_target_by_seed'])}"
        where = (
            f"{statistics.median(h['steps'] for h in hits):.0f}, "
            f"{statistics.median(h['seconds'] for h in hits):.0f}"
            if hits
            else "–"
        )
        average = r.get("error_average_by_seed")
        failed = f", {r['diverged']} diverged" if r["diverged"] else ""
        lines.append(
            f"| {r['arm']} | {r['lr']:g}, {r['decay']:g}, {r['warm']:g} | {r['steps']} | "
            f"{r['visits'] / 1e3:.0f}, {r['stroke_visits'] / 1e3:.0f} | {r['error']:.2f} "
            f"({r['spread']:.2f}){failed} | "
            f"{plus(r['to_sgd'], 2)} | {mean_sd(average, 2) if average else '–'} | "
            f"{mean_sd(r['seconds_by_seed'], 0)} | {100 * r['backward_saved']:.0f} | "
            f"{where} ({reached}) | {plus(r['to_own_base']['error'], 2)} | "
            f"{statistics.fmean(r['loss_test_by_seed']):.4f} ({plus(r['to_own_base']['loss_test'], 4)}) |"
        )
    text = "\n".join(lines) + "\n"
    print("\n" + text)
    (options.out / "table.md").write_text(text)
    kept = {k: v for k, v in vars(options).items() if k not in ("out", "choices")}
    document = {
        "versions": versions(),
        "options": kept,
        "target": target,
        "rows": rows,
        "tuning": tuning_of(options),
    }
    (options.out / "table.json").write_text(json.dumps(document, indent=1) + "\n")
    drawn = options.draw or options.arms
    curves = {name: mean_history(runs[name]) for name in drawn}
    draw_curves(curves, options.out / "curves.png", title=data.note, note="means over seeds")
