"""`twostroke demo`: what supports do, on real digits, in a few minutes."""

from __future__ import annotations

import importlib.util
import math
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from torch import nn

from .._amounts import size
from ..alternation import Alternation, BatchWise, InstanceWise, Live
from ..data import Data, Examples, draw_some, load
from ..guidance import Guide, distill
from ..models import create_model
from ..outcome import Status
from ..report import comparison, draw_curves
from ..report.page import write_page
from ..report.reports import side_by_side
from ..runs import History, RunFolder
from ..training import FAST, MASK_AT_TEST, FitResult, Settings, evaluate, fit
from .progress import RunBars
from .running import seed_weights

SETTINGS = Settings(epochs=6, batch_size=100, lr=0.4)
ARMS: dict[str, Alternation] = {
    "SGD": Live(),
    "instance-wise": InstanceWise(warmup=2, gap=2),
    "batch-wise": BatchWise(warmup=1),
}


def arms(settings: Settings) -> dict[str, tuple[Alternation, Settings]]:
    """What is compared: the paper's kinds as they are, and the better weight stroke in half the time."""
    short = FAST.but(
        epochs=max(1, settings.epochs // 2), batch_size=settings.batch_size, seed=settings.seed
    )
    return {name: (kind, settings) for name, kind in ARMS.items()} | {"Muon": (Live(), short)}


# a fresh network learns from so many digits without labels, in so many epochs of five steps
GIVEN, GIVEN_EPOCHS, GIVEN_STEPS = 500, 40, 200
WEIGHTS = {"given supports": 30.0, "outputs alone": 0.0}


def demo(*, out: Path | None = None, epochs: int = SETTINGS.epochs, seed: int = 0) -> int:
    """Train a small network on real digits, alternate as the paper does, and hand supports to a fresh network.

    First SGD and both kinds of alternation: same initial weights, order of examples, schedule and number of
    epochs; a fourth arm trains with Muon for half as many, but for one at least. Then that network teaches: a
    fresh one learns from 500 digits without labels, by the supports that are given, and another one by the
    outputs alone. Prints two tables and draws learning curves. Ctrl-C stops it and keeps nothing.

    Args:
        out: Folder for table and picture, by default the first free of twostroke-demo, twostroke-demo-2, ...
        epochs: Epochs of each arm.
        seed: Of initial weights and order.
    """
    begun = time.perf_counter()
    settings = SETTINGS.but(epochs=epochs, seed=seed)
    data = load("mnist-12k")
    folder = RunFolder.create(
        out or _free("twostroke-demo"), {"command": "demo", "epochs": epochs, "seed": seed}
    )
    console = Console(markup=False)
    compared = arms(settings)
    console.print(
        f"{data.note}. Epochs: {epochs} for each of three arms, {compared['Muon'][1].epochs} for the one "
        "with Muon; the same seed, schedule and order.\n",
        highlight=False,
    )
    histories: dict[str, History] = {}
    masked: dict[str, float] = {}
    try:
        for name, (kind, arm) in compared.items():
            with RunBars(console, name) as bars:
                result = _trained(kind, arm, data, bars)
            if result.status is Status.DIVERGED:
                folder.discard()
                console.print(f"{name}: {result.message}", highlight=False)
                return 1
            histories[name] = result.history
            masked[name] = evaluate(result.model, data.test, rule=MASK_AT_TEST).error
        teacher, known = result.model, result.error  # Muon's, the last
        students, taught = _students(teacher, data, seed, console)
    except KeyboardInterrupt:
        folder.discard()
        console.print("Stopped; nothing is kept of a demo.")
        return 130
    arms_table = comparison(histories, mask_errors=masked)
    console.print()
    console.print(arms_table.table())
    deviation = 100 * math.sqrt(0.02 * 0.98 / len(data.test))
    told = {"tests": len(data.test), "one": deviation, "two": 2 * math.sqrt(2) * deviation}
    explanation = EXPLANATION.format(**told)
    console.print(explanation, highlight=False)
    title, note = "SGD and alternation on real digits", f"{data.note}; allcnn-mini; seed {seed}"
    draw_curves(histories, folder.curves_file, title=title, note=note)
    students_title = f"{GIVEN} digits without labels, {GIVEN_STEPS} steps"
    students_table = comparison(students, title=students_title)
    console.print(students_table.table())
    teaching = f"The teacher is the network trained by Muon, {known:.2f} %. It told {taught}."
    console.print(f"\n{teaching}", highlight=False)
    parts = [
        side_by_side(title, histories, text=explanation, sheets=[arms_table]),
        side_by_side(
            students_title, students, text=teaching, sheets=[replace(students_table, title="")]
        ),
    ]
    draw_curves(
        students,
        folder.path / "given.png",
        title=f"A fresh network, {GIVEN} digits without labels",
        note=f"{data.note}; allcnn-mini; seed {seed}; 5 steps an epoch; the teacher has {known:.2f} %",
    )
    write_page(folder.report_file, "twostroke demo", [note], parts)
    for name, history in (histories | students).items():
        history.save(folder.path / f"{name.lower().replace(' ', '-')}.csv")
    told_time = _time(histories, students, time.perf_counter() - begun)
    console.print(told_time, highlight=False, markup=False)
    console.print(f"\nreport: {folder.report_file}", highlight=False, soft_wrap=True)
    return 0


def _students(
    teacher: nn.Module, data: Data, seed: int, console: Console
) -> tuple[dict[str, History], str]:
    """Fresh networks that learn from the teacher, and what it told of an image."""
    assert isinstance(data.train, Examples)
    images = data.train.subset(draw_some(GIVEN, len(data.train), seed=seed))
    guide = Guide.record(teacher, images)
    students: dict[str, History] = {}
    for name, weight in WEIGHTS.items():
        seed_weights(seed + 1)  # another start than the teacher's
        student = create_model("allcnn-mini", classes=10, in_channels=1)
        with RunBars(console, name) as bars:
            result = distill(
                student,
                guide,
                images,
                test=data.test,
                weight=weight,
                epochs=GIVEN_EPOCHS,
                seed=seed,
                listener=bars,
            )
        if result.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        students[name] = result.history
    masks = guide.rows.shape[1]
    return students, f"{size(masks)} of masks an image (one bit a unit) and its ten outputs"


def _trained(kind: Alternation, settings: Settings, data: Data, bars: RunBars) -> FitResult:
    seed_weights(settings.seed)
    model = create_model("allcnn-mini", classes=10, in_channels=1)
    result = fit(model, data, alternation=kind, settings=settings, listener=bars)
    if result.status is Status.INTERRUPTED:  # half an arm cannot be compared
        raise KeyboardInterrupt
    return result


def _time(arms: dict[str, History], students: dict[str, History], whole: float) -> str:
    """Where the time went."""
    both = [*arms.values(), *students.values()]
    parts = {
        "training": sum(history.seconds for history in arms.values()),
        "the fresh networks": sum(history.seconds for history in students.values()),
        "evaluation": sum(sum(history.column("eval_seconds")) for history in both),
    }
    parts["the rest"] = max(0.0, whole - sum(parts.values()))
    told = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in parts.items())
    faster = (
        "" if importlib.util.find_spec("numba") else "; pip install 'twostroke[fast]' saves some"
    )
    return f"\ntime: {whole:.0f} s ({told}){faster}"


EXPLANATION = """
error   of the trained network on test images
MaskT   the same weights with masks instead of ReLU on test images, which keep
        the larger half of the units that ReLU keeps (the paper's MaskT; it does
        not say how many)
loss    on training examples, under the masks held last, and by the live network
seconds of training, support strokes included, evaluation not

With {tests:,} test images an error of 2 % has a standard deviation of {one:.1f} points,
and chance alone can set two runs {two:.1f} points apart (twice that of a difference):
less means nothing."""


def _free(stem: str) -> Path:
    path, number = Path(stem), 1
    while path.exists():
        number += 1
        path = Path(f"{stem}-{number}")
    return path
