"""`report.html`: a run, or runs side by side, to be looked at; made of nothing but what is in their folders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..runs import History, RunFolder
from ..runs.history import PLAIN
from .answers import Answers
from .confusion import NUMBERED, confusion_counts, confusion_figure, worst_pairs
from .curves import STROKES, Panel, compared, curves, draw_curves, of_run
from .figure import svg
from .page import Picture, Section, write_page
from .sheet import Sheet
from .sites import sites_figure, sites_sheet
from .table import comparison, settings

POINT = "Point at an epoch for its numbers."
_UNTESTED = (
    "Errors are of the test set. A student without a test set is measured on its training images: its error is "
    "the share of them on which it gives another answer than its teacher."
)


def write_report(run: RunFolder) -> Path:
    """Write a run's `report.html` and `curves.png` again from what is in its folder; gives the page.

    Raises `RunFolderError` for a folder that is no run's, has damaged files or cannot be written to.
    """
    config = settings(run.config()) if run.config_file.exists() else {}
    history = run.history()
    answers = Answers.load(run.answers_file) if run.answers_file.exists() else None
    name = run.path.resolve().name
    what = [config[key] for key in ("model", "data") if config.get(key, "teacher") != "teacher"]
    title = f"{name}: {' on '.join(what) or config.get('command', 'a run')}"
    sections = [_learning(of_run(history), history)]
    if answers is not None:
        sections.append(mistakes(answers))
    if any(record.density_by_site for record in history) and any(r.round for r in history):
        sections.append(_sites(history))
    sections += [_epochs(history), _facts("Settings", config, "setting")]
    if run.versions_file.exists():
        versions = json.loads(run.versions_file.read_text())
        sections.append(_facts("Software and machine", settings(versions), "what"))
    student = config.get("command") == "distill"
    lead = [_summary(history, "" if student and answers is None else "test ")]
    lead += answers.told if answers is not None else [_UNTESTED] * student
    draw_curves({name: history}, run.curves_file, title=title)
    write_page(run.report_file, title, lead, sections)
    return run.report_file


def write_comparison(
    folder: Path,
    runs: Mapping[str, RunFolder],
    *,
    sheets: Sequence[Sheet] = (),
    lead: Sequence[str] = (),
) -> Path:
    """Write `report.html` and `curves.png` on several runs into `folder`; gives the page.

    `sheets` stand below the table of all runs, `lead` below the title. Raises as `write_report` does.
    """
    histories = {name: run.history() for name, run in runs.items()}
    draw_curves(histories, folder / "curves.png")
    section = side_by_side("", histories, sheets=[comparison(histories), *sheets])
    write_page(folder / "report.html", f"{len(runs)} runs side by side", lead, [section])
    return folder / "report.html"


def side_by_side(
    title: str, runs: Mapping[str, History], *, text: str = "", sheets: Sequence[Sheet] = ()
) -> Section:
    """Curves and tables of several runs, as a part of a page."""
    panels = compared(runs)
    told = "\n".join([text, *_captions(panels)]).strip()
    return Section(title or "Learning", told, _drawn(panels, title), sheets)


def _drawn(panels: Sequence[Panel], title: str) -> list[str]:
    """A picture a panel, so that they stand below each other on a phone."""
    return [
        svg(curves([panel], strokes=False), f"{title} {panel.label} by epoch".strip())
        for panel in panels
    ]


def _captions(panels: Sequence[Panel]) -> list[str]:
    strokes = any(
        record.round for panel in panels for history, _ in panel.lines for record in history
    )
    return [POINT, *[f"{STROKES[0].upper()}{STROKES[1:]}." for _ in range(strokes)]]


def _learning(panels: list[Panel], history: History) -> Section:
    if not len(history):
        return Section("Learning", "No epoch was completed.")
    told = [
        "Losses and errors of training are those of the examples that are watched (--probe).",
        *_captions(panels),
    ]
    return Section("Learning", " ".join(told), _drawn(panels, ""))


def _summary(history: History, test: str) -> str:
    if not len(history):
        return "No epoch was completed."
    last, best = history[-1], min(history, key=lambda record: record.error)
    told = [
        f"{len(history)} epoch{'s' * (len(history) > 1)}, {history.steps:,} steps",
        f"{test}error {last.error:.2f} % (lowest: {best.error:.2f} % after epoch {best.epoch})",
        f"{test}loss {last.loss_test:.4g}",
        f"{history.seconds:.0f} s of training and {sum(history.column('eval_seconds')):.0f} s of evaluation",
    ]
    if last.round:
        told.append(f"{100 * history.held_share:.0f} % of the steps under held masks")
    return "; ".join(told) + "."


def mistakes(answers: Answers) -> Section:
    """What a model gets wrong, as a part of a page."""
    names = answers.classes
    counts = confusion_counts(answers.answers, answers.labels, len(names))
    wrong = int((answers.answers != answers.labels).sum())
    text = f"{wrong:,} of {len(answers.labels):,} test examples ({answers.error:.2f} %) are answered wrong."
    pictures = []
    for index, pixels in zip(answers.worst.tolist(), answers.pictures, strict=True):
        answer, label = names[int(answers.answers[index])], names[int(answers.labels[index])]
        caption = (
            f"{answer}, not {label} ({100 * float(answers.sure[index]):.0f} %; number {index})"
        )
        pictures.append(Picture.of(pixels, caption))
    if pictures:
        text += (
            f" Below, the {len(pictures)} of which the model is surest: its answer, the right class, "
            "the probability that it gives its answer, and the number of the example in the test set."
        )
    pairs = [(names[a], names[b], f"{count:,}") for a, b, count in worst_pairs(counts)]
    sheets = (
        [Sheet("Most frequent mistakes", ("right class", "answer", "times"), tuple(pairs))]
        if pairs
        else []
    )
    if len(names) > NUMBERED:
        text += " Classes are numbered in the picture in the order of their names."
    figure = svg(confusion_figure(counts, names), "which class is answered where which is right")
    return Section("What it gets wrong", text, [figure], sheets, pictures)


def _sites(history: History) -> Section:
    drawn = [("density", "share of units that are on")]
    if any(record.drift_by_site for record in history):
        drawn.append(
            ("drift", "share of units whose held mask differs from the one they would have now")
        )
    text = (
        "; ".join(f"{name}: {what}" for name, what in drawn)
        + ". Sites in the order of the forward pass."
    )
    figures = [svg(sites_figure(history, name), f"{name} by site and epoch") for name, _ in drawn]
    return Section("Sites", text, figures, [sites_sheet(history)])


def _epochs(history: History) -> Section:
    names = [name for name in PLAIN if any(v is not None for v in history.column(name))]
    rows = [tuple(_cell(getattr(record, name)) for name in names) for record in history]
    heads = tuple(name.replace("_", "\n") for name in names)
    return Section(
        "Every epoch",
        "The numbers of metrics.csv.",
        sheets=[Sheet("", heads, tuple(rows))],
        folded=True,
    )


def _cell(value: object) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _facts(title: str, values: Mapping[str, str], head: str) -> Section:
    return Section(title, sheets=[Sheet("", (head, "value"), tuple(values.items()))], folded=True)
