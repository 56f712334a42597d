"""Tables and pictures of `twostroke recover`: phase diagrams, teachers and students."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from statistics import median
from typing import Any

from ..theory.recovery import PhaseDiagram
from ..theory.teacher_student import TeacherStudent
from .curves import COLOURS
from .figure import new_figure, plain
from .sheet import Sheet

MARKERS = "os^DvPX"


def phase_sheet(diagram: PhaseDiagram) -> Sheet:
    """Successes by solver and measurements per degree of freedom, the median steps in brackets."""
    solvers = list(dict.fromkeys(p.solver for p in diagram.points))
    factors = list(dict.fromkeys(p.oversampling for p in diagram.points))
    cells = {
        (p.solver, p.oversampling): f"{p.successes} ({p.steps:.0f})" if p.successes else "0"
        for p in diagram.points
    }
    rows = tuple((s, *(cells.get((s, f), "–") for f in factors)) for s in solvers)
    return Sheet(
        f"{_problem(diagram)}: recoveries of {diagram.points[0].trials} (median steps)",
        ("solver", *(f"{f:g}" for f in factors)),
        rows,
    )


def student_sheet(settings: Sequence[TeacherStudent]) -> Sheet:
    """A line a net and number of examples: students that fit and recover, support given or not."""
    rows = []
    for (depth, samples), by in _grouped(settings).items():
        row = [f"depth {depth}", str(samples)]
        row.append(f"{sum(s.unseen == 0 for s in by['given'])} of {len(by['given'])}")
        for support in ("given", "unknown"):
            runs = [run for s in by[support] for run in s.runs]
            row += [str(sum(r.reached for r in runs)), str(sum(r.recovered for r in runs))]
            row.append(f"{median(r.train for r in runs):.0e}")
        rows.append(tuple(row))
    heads = ["net", "examples", "all seen"]
    for support in ("given", "unknown"):
        heads += [f"{support}:\nfits", "recovers", "error"]
    return Sheet("Teacher and student, support given and unknown", tuple(heads), tuple(rows))


def draw_phase(
    diagrams: Sequence[PhaseDiagram], path: str | PathLike[str], *, note: str = ""
) -> None:
    """Draw success rate against measurements per degree of freedom, a curve a solver, a panel a problem."""
    columns = min(2, len(diagrams))
    lines = -(-len(diagrams) // columns)
    figure = new_figure((3.2 + 4.2 * columns, 0.9 + 3.2 * lines))
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    solvers = list(dict.fromkeys(p.solver for d in diagrams for p in d.points))
    handles: dict[str, Any] = {}
    for axes, diagram in zip(panels, diagrams, strict=False):
        here = [s for s in solvers if diagram.curve(s)[0]]
        for place, solver in enumerate(here):
            kind = solvers.index(solver)
            factors, rates = diagram.curve(solver)
            # curves that coincide, as they do at 0 and 1, are set a hair apart
            shift = 0.8 * (place - (len(here) - 1) / 2)
            (handles[solver],) = axes.plot(
                factors,
                [100 * rate + shift for rate in rates],
                marker=MARKERS[kind % len(MARKERS)],
                ms=4.5,
                lw=1.3,
                color=(*COLOURS, "#222222")[kind % (len(COLOURS) + 1)],
            )
        axes.set_title(_problem(diagram), fontsize=9.5)
        axes.set(ylim=(-6, 106), xlabel="measurements per degree of freedom")
        axes.set(ylabel="recovered (%)")
        plain(axes)
    for axes in panels[len(diagrams) :]:
        axes.set_visible(False)
    figure.legend(
        handles.values(), handles.keys(), loc="outside right upper", frameon=False, fontsize=8
    )
    figure.suptitle("Recovery from Gaussian measurements", fontsize=11)
    if note:
        figure.supxlabel(note, fontsize=7.5, color="#555555")
    figure.savefig(path, dpi=130)


def draw_students(
    settings: Sequence[TeacherStudent], path: str | PathLike[str], *, note: str = ""
) -> None:
    """Draw how many students recover their teacher, with support given and unknown, as bars with counts.

    The pale top of a bar is those that fit the training examples and miss the held-out ones.
    """
    groups = _grouped(settings)
    figure = new_figure((max(7.5, 2.2 + 0.95 * len(groups)), 4.4))
    axes = figure.subplots()
    for side, support, colour in ((-0.2, "given", COLOURS[0]), (0.2, "unknown", COLOURS[1])):
        for place, by in enumerate(groups.values()):
            runs = [run for s in by[support] for run in s.runs]
            fits = sum(r.reached for r in runs)
            good = sum(r.recovered for r in runs)
            at = place + side
            first = place == 0
            axes.bar(
                at, 100 * good / len(runs), 0.36, color=colour,
                label=f"support {support}: recovers the teacher" if first else None,
            )  # fmt: skip
            axes.bar(
                at, 100 * max(0, fits - good) / len(runs), 0.36, bottom=100 * good / len(runs),
                color=colour, alpha=0.3,
                label="pale: fits the training examples only" if first and support == "given" else None,
            )  # fmt: skip
            axes.annotate(
                f"{good}/{len(runs)}", (at, 100 * max(good, fits) / len(runs)), ha="center",
                textcoords="offset points", xytext=(0, 3), fontsize=8, color=colour,
            )  # fmt: skip
    axes.set_xticks(range(len(groups)), [f"depth {d}\n{n} examples" for d, n in groups], fontsize=8)
    axes.set(ylim=(0, 112), ylabel="students (%)", yticks=range(0, 101, 25))
    plain(axes)
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="x", length=0)
    handles, labels = axes.get_legend_handles_labels()
    order = [0, 2, 1]  # the pale one last
    figure.legend(
        [handles[k] for k in order], [labels[k] for k in order],
        loc="outside lower center", ncols=3, frameon=False, fontsize=8, columnspacing=1.2,
    )  # fmt: skip
    axes.set_title("Teacher and student: support given and unknown", fontsize=11)
    if note:
        axes.set_xlabel(note, fontsize=7.5, color="#555555", labelpad=8)
    figure.savefig(path, dpi=130)


def _grouped(
    settings: Sequence[TeacherStudent],
) -> dict[tuple[int, int], dict[str, list[TeacherStudent]]]:
    groups: dict[tuple[int, int], dict[str, list[TeacherStudent]]] = {}
    for s in settings:
        by = groups.setdefault((s.depth, s.samples), {"given": [], "unknown": []})
        by[s.support].append(s)
    return groups


def _problem(diagram: PhaseDiagram) -> str:
    return f"{diagram.shape[0]} × {diagram.shape[1]}, rank {diagram.rank}"
