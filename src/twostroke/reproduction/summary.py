"""Numbers of a table: mean and spread over seeds, distance from the paper, and convergence."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..report.table import to_target
from ..runs import EpochRecord, History
from .published import Experiment, Line

Results = dict[tuple[str, str], list[dict[str, Any]]]  # by task and arm, a result a seed


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table. Errors in %; `spread` is the standard deviation over `n` seeds (n - 1).

    `dead` seeds ended where they began, at chance: they count in `n` and in the mean. `diverged` ones have
    no error and do not.
    `within` says whether the paper's figure lies within two standard deviations of our mean, None where
    there are fewer than three seeds or nothing to compare, or one died or diverged. `remark` says that
    the data are not the paper's ("subset", "stand-in"): then the difference is no verdict, and `within`
    None.
    """

    label: str
    paper: float | None
    ours: float | None = None
    spread: float | None = None
    n: int = 0
    dead: int = 0
    diverged: int = 0
    difference: float | None = None
    within: bool | None = None
    paper_parameters: str = ""
    parameters: int | None = None
    sparsity: float | None = None
    units_off: float | None = None
    seconds: float | None = None
    remark: str = ""


def rows(
    experiment: Experiment, results: Results, remarks: Mapping[str, str] | None = None
) -> list[Row]:
    """Lines of a table from what was trained; a line without cells is another method's.

    `remarks` tells of tasks whose data are not the paper's.
    """
    known = remarks or {}
    return [
        _row(line, results.get((line.task, line.arm), []), known.get(line.task, ""))
        for line in experiment.lines
    ]


def _row(line: Line, runs: Sequence[dict[str, Any]], remark: str) -> Row:
    finished = [run for run in runs if run["status"] != "DIVERGED"]
    values = [run["numbers"][line.measure] for run in finished]
    row = Row(
        label=line.label,
        paper=line.paper,
        n=len(values),
        dead=sum(map(died, finished)),
        diverged=len(runs) - len(values),
        paper_parameters=line.parameters,
        remark=remark,
    )
    if not values:
        return row
    ours = statistics.fmean(values)
    spread = statistics.stdev(values) if len(values) > 1 else None
    difference = None if line.paper is None else ours - line.paper
    within = None
    sound = len(values) > 2 and not (row.dead or row.diverged or remark)
    if difference is not None and spread is not None and sound:
        within = abs(difference) <= 2 * spread

    def mean(key: str) -> float | None:
        found = [run["numbers"][key] for run in finished if key in run["numbers"]]
        return statistics.fmean(found) if found else None

    return Row(
        **asdict(row)
        | {
            "ours": ours,
            "spread": spread,
            "difference": difference,
            "within": within,
            "parameters": finished[0]["parameters"],
            "sparsity": mean("sparsity"),
            "units_off": mean("units_off"),
            "seconds": statistics.fmean(run["seconds"] for run in finished),
        }
    )


def died(run: dict[str, Any]) -> bool:
    """Whether a finished run ended about where it began; at smoke, where most do, it is not asked."""
    errors = [record["error"] for record in run["history"]]
    if run["identity"]["scale"] == "smoke" or len(errors) < 2:
        return False
    return bool(errors[-1] >= 0.9 * max(errors))


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """How fast one arm of a task learns, over its seeds, all with one schedule.

    `area` is the mean of the live test error over the epochs, of seeds that did not diverge. `reached` maps
    a target error to the median epochs and training seconds until it was first reached, and how many of
    all `n` seeds did; the first target is the mean final error of SGD's seeds that learned, if any did.
    """

    task: str
    arm: str
    epochs: int
    n: int
    area: float
    reached: dict[float, tuple[float, float, int] | None]


def convergence(results: Results, targets: dict[str, tuple[float, ...]]) -> list[Convergence]:
    """Every arm that shares a task with SGD, against SGD's final error and the fixed targets."""
    found = []
    for (task, arm), runs in results.items():
        reference = [
            run
            for run in results.get((task, "sgd"), [])
            if run["status"] != "DIVERGED" and not died(run)
        ]
        every = len(runs)
        runs = [r for r in runs if r["status"] != "DIVERGED" and r["history"]]
        if (task, "sgd") not in results or not runs:
            continue
        final = [statistics.fmean(r["numbers"]["error"] for r in reference)] if reference else []
        histories = [History(EpochRecord(**record) for record in run["history"]) for run in runs]
        found.append(
            Convergence(
                task=task,
                arm=arm,
                epochs=len(runs[0]["history"]),
                n=every,
                area=statistics.fmean(statistics.fmean(h.column("error")) for h in histories),
                reached={
                    **{round(error, 2): _reached(histories, error) for error in final},
                    **{target: _reached(histories, target) for target in targets[task]},
                },
            )
        )
    return found


def _reached(histories: Sequence[History], target: float) -> tuple[float, float, int] | None:
    hits = [hit for hit in (to_target(history, target) for history in histories) if hit]
    if not hits:
        return None
    epochs, _, seconds = zip(*hits, strict=True)
    return statistics.median(epochs), statistics.median(seconds), len(hits)
