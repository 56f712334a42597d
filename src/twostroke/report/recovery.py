"""The table and the picture of students and their teachers, support given and unknown."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from statistics import median

from ..theory.teacher_student import TeacherStudent
from .figure import COLOURS, new_figure, plain
from .sheet import Sheet


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
