"""Tables as Markdown and JSON, curves as PNG, in one folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import RunFolderError
from ..report import draw_training
from ..report.sheet import Sheet
from ..runs import EpochRecord, History, save_text, versions
from .published import Experiment
from .summary import Convergence, Results, Row, convergence, rows
from .tasks import TASKS, trains


def write(
    out: Path,
    name: str,
    experiment: Experiment,
    scale: str,
    results: Results,
    notes: dict[str, str],  # task → what its data really are
    remarks: dict[str, str],  # task → "subset" or "stand-in" where they are not the paper's, or ""
    left_out: Sequence[str] = (),  # tasks that were not asked for
    planned: int = 0,  # runs that were asked for, if that is more than there are results
) -> list[Path]:
    """Write NAME.md, NAME.json and a picture a task; gives the files."""
    table = rows(experiment, results, remarks)
    speed = convergence(results, {task: TASKS[task].targets for task, _ in results})
    text = markdown(experiment, scale, table, speed, notes, results, left_out, planned)
    document = {
        "experiment": name,
        "scale": scale,
        "data": notes,
        "planned": planned,
        "command": _command(),
        "rows": [asdict(row) for row in table],
        "convergence": [asdict(line) for line in speed],
        "cells": [
            {
                key: run[key]
                for key in (
                    *("identity", "seed", "device", "versions", "status", "detail"),
                    *("parameters", "numbers", "seconds", "history"),
                )
            }
            for runs in results.values()
            for run in runs
        ],
    }
    files = [out / f"{name}.md", out / f"{name}.json"]
    try:
        for file, content in zip(files, (text, json.dumps(document, indent=1) + "\n"), strict=True):
            save_text(file, content)
        for task in notes:
            curves = _curves(results, task)
            if curves:
                picture = out / f"{name}-{task}.png"
                note = f"{notes[task]}; scale {scale}; seed 0; numbers mark support strokes"
                draw_training(curves, picture, title=f"{experiment.title}: {task}", note=note)
                files.append(picture)
    except OSError as error:
        raise RunFolderError(f"{out} cannot be written: {error}") from error
    return files


def _curves(results: Results, task: str) -> dict[str, History]:
    found = {}
    for (some, arm), runs in results.items():
        first = next((run for run in runs if run["seed"] == 0), None)
        if some == task and first is not None and first["history"]:
            found[arm] = History(EpochRecord(**record) for record in first["history"])
    return found


def markdown(
    experiment: Experiment,
    scale: str,
    table: Sequence[Row],
    speed: Sequence[Convergence],
    notes: dict[str, str],
    results: Results,
    left_out: Sequence[str] = (),
    planned: int = 0,
) -> str:
    """The whole page."""
    lines = [f"# {experiment.title}", ""]
    lines += [f"Scale: **{scale}**. {SCALE_NOTES[scale]}", ""]
    done = sum(map(len, results.values()))
    if done < planned:
        lines += [f"- **not finished**: {done} of {planned} runs; the same command goes on"]
    lines += [f"- {task}: {note}" for task, note in notes.items()]
    if left_out:
        lines += [f"- left out (--only): {', '.join(left_out)}"]
    if not all(trains(line.arm, scale) for line in experiment.lines):
        lines += ["- masks of units are not trained at this scale"]
    # of the runs, which may come from several machines, and not of the one that writes this page
    machines = dict.fromkeys(_machine(run) for runs in results.values() for run in runs)
    lines += [f"- trained on {machine}" for machine in machines]
    lines += [f"- command: `{_command()}`", ""]
    lines += [_table(table).markdown()]
    lines += [
        "",
        "Errors in %, mean (standard deviation) over n seeds; *within* says whether the paper's",
    ]
    lines += [
        "figure lies within two standard deviations of our mean, with three seeds at least and on"
    ]
    lines += [
        "the paper's data, none of which died or diverged; elsewhere the difference is no verdict."
    ]
    if any(row.sparsity is not None for row in table):
        lines += ["Seconds of the masks are without the dense phase, which they share."]
    if speed:
        lines += ["", "## Convergence", "", *_speed(speed)]
    return "\n".join(lines) + "\n"


def _machine(run: dict[str, Any]) -> str:
    """What trained a run, and how it computed."""
    told, settings = run["versions"], run["identity"]["settings"]
    device = told["gpu"] if run["device"] != "cpu" else told["platform"]
    threads = f"{told['cpu_cores']} cores, {told['threads']} thread(s)"
    way = settings["precision"] + (", channels-last" if settings["channels_last"] else "")
    return f"{run['device']} ({device}, {threads}); {way}; torch {told['torch']}, Python {told['python']}"


def _command() -> str:
    return str(versions()["command"]).replace("__main__.py", "twostroke")


SCALE_NOTES = {
    "full": "The published schedule.",
    "short": "The published schedule in about a fifth of its epochs.",
    "smoke": "A few epochs on a subset: it shows that the path works, its errors mean nothing.",
}


def _table(table: Sequence[Row]) -> Sheet:
    counts = any(row.paper_parameters for row in table)
    sparse = any(row.sparsity is not None for row in table)
    units = any(row.units_off is not None for row in table)
    heads = ["", "paper", "ours", "n", "difference", "within", "seconds"]
    heads += ["parameters: paper", "ours"] if counts else []
    heads += ["weights pruned %"] if sparse else []
    heads += ["units off %"] if units else []
    lines = []
    for row in table:
        ours = number(row.ours)
        if row.spread is not None:
            ours += f" ({row.spread:.2f})"
        if row.dead:
            ours += f", {row.dead} at chance"
        if row.diverged:
            ours += f", {row.diverged} diverged"
        cells = [row.label, number(row.paper), ours, str(row.n or "–")]
        cells += ["–" if row.difference is None else f"{row.difference:+.2f}"]
        verdict = {None: "–", True: "yes", False: "no"}[row.within]
        if row.remark and row.ours is not None:
            verdict = row.remark
        cells += [verdict, number(row.seconds, 0)]
        if counts:
            cells += [row.paper_parameters or "–"]
            cells += ["–" if row.parameters is None else f"{row.parameters:,}"]
        if sparse:
            cells += ["–" if row.sparsity is None else f"{100 * row.sparsity:.1f}"]
        if units:
            cells += ["–" if row.units_off is None else f"{100 * row.units_off:.1f}"]
        lines.append(tuple(cells))
    return Sheet("", tuple(heads), tuple(lines))


def _speed(speed: Sequence[Convergence]) -> Iterable[str]:
    yield "Epochs and training seconds until the live test error was first at most the target: median of the"
    yield "seeds that reached it (how many of all). The first target is the mean final error of SGD's seeds"
    yield "that learned, if any did; area is the mean error over the epochs. All arms of a task follow one"
    yield "schedule."
    for task in dict.fromkeys(line.task for line in speed):
        some = [line for line in speed if line.task == task]
        heads = (task, "epochs", "area %", *(f"to {t:g} %" for t in some[0].reached))
        lines = [
            (
                line.arm,
                str(line.epochs),
                f"{line.area:.2f}",
                *(_hit(hit, line.n) for hit in line.reached.values()),
            )
            for line in some
        ]
        yield ""
        yield Sheet("", heads, tuple(lines)).markdown()


def _hit(hit: tuple[float, float, int] | None, n: int) -> str:
    if hit is None:
        return "–"
    epochs, seconds, count = hit
    return f"{epochs:g} ep, {seconds:.0f} s ({count}/{n})"


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def summary_of(run: dict[str, Any]) -> str:
    """One cell in a few words."""
    if run["status"] == "DIVERGED":
        return f"diverged {run['detail']}"
    return f"error {run['numbers']['error']:.2f} %"
