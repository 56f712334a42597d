"""`twostroke distill` and `twostroke guide`: a network from the supports of another, and their file."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from .._amounts import size
from ..alternation import Alternation, Live
from ..data import Data, ExampleSource, draw_some
from ..data.bundle import Divisible
from ..errors import RunFolderError, SettingsError
from ..guidance import Guide
from ..guidance import distill as distilled
from ..guidance.students import Student, finish, narrow, prune, quantise
from ..models import create_model
from ..models.catalog import origin
from ..processes import launched
from ..runs import RunFolder
from ..sparsity import Masked
from ..training import FitResult, Settings, evaluate
from .options import DataOptions, Flat, RunOptions, plain
from .progress import RunBars
from .running import carry_out, seed_weights
from .teachers import Teacher, as_taught, pictures, teacher_of

STUDENT = "student.safetensors"  # builds the network and has its weights, in the run's folder


@dataclass(frozen=True, kw_only=True)
class DistillConfig(DataOptions, RunOptions):
    """Train a network towards the supports of a trained one, from a few images without labels.

    The teacher looks at the images once: one bit a unit, and its outputs. Then a fresh network, a narrower one,
    a pruned one or one of few bits is trained towards that. What comes out is a plain model.

    A guide, which the run's folder keeps (guide.safetensors), is as confidential as the teacher's weights.
    """

    teacher: str = ""
    """Folder of a run of `twostroke train`, torchvision:NAME, timm:NAME, or a model.safetensors of a run."""
    images: Path | None = None
    """Folder with pictures of any size and depth, without labels. Left out, training images of --data."""
    data: str = "teacher"
    """Data set with the images and the test set; teacher is that of the teacher's run, none is no test set."""
    examples: int | None = None
    """How many images the teacher looks at, drawn by --seed; left out, all."""
    guide: Path | None = None
    """A file that `twostroke guide` wrote of these images, instead of asking the teacher again."""
    model: str | None = None
    """Another architecture for the student; left out, the teacher's."""
    width: float = 1.0
    """Share of the channels that the student keeps, the strongest ones (pip install 'twostroke[shrink]')."""
    prune: float = 0.0
    """Share of the smallest weights of each layer to prune, from the teacher's weights."""
    bits: Literal[1, 2, 4, 32] = 32
    """Bits of a weight, from the teacher's weights; 32 leaves them as they are."""
    steps: int = 600
    """Optimiser steps in all, instead of --epochs."""
    weight: float = 30.0
    """Weight of the guidance; 0 is distillation by outputs alone."""
    kd: float = 1.0
    """Weight of distillation by the teacher's outputs (Hinton et al. 2015)."""
    labels: bool = False
    """Also learn from the labels of the data set."""
    compare: bool = False
    """Also train the same student by the outputs alone, for the table."""
    settings: Annotated[Settings, Flat] = field(
        default_factory=lambda: Settings(optimizer="muon", batch_size=100)
    )

    def check(self) -> None:
        """Raise `SettingsError` for what cannot be, before any work."""
        if not self.teacher:
            raise SettingsError(
                "say who teaches: --teacher runs/NAME, torchvision:NAME or timm:NAME"
            )
        kinds = [self.width != 1.0, self.prune != 0.0, self.bits != 32, self.model is not None]
        if sum(kinds) > 1:
            raise SettingsError(
                "--model, --width, --prune and --bits make different students: give one of them"
            )
        if self.settings.epochs != Settings().epochs:
            raise SettingsError("the length of a distillation is --steps: leave --epochs out")
        if self.labels and self.images is not None:
            raise SettingsError("pictures of --images have no labels: leave --labels out")
        if self.model is not None:
            origin(self.model)

    @property
    def name(self) -> str:
        """The kind of student, in a word or two."""
        if self.width != 1.0:
            return f"width {self.width:g}"
        if self.prune:
            return f"{100 * self.prune:g} % pruned"
        return (
            f"{self.bits} bit{'s' * (self.bits > 1)}"
            if self.bits != 32
            else (self.model or "fresh")
        )


@dataclass(frozen=True)
class Made:
    """A student before training, what keeps it so, and its recipe."""

    net: nn.Module
    alternation: Alternation
    recipe: Student


def distill(what: DistillConfig) -> int:
    """Carry out what is asked for."""
    what.check()
    if launched() > 1:
        raise SettingsError("twostroke distill runs in one process: start it without torchrun")
    place = what.out if what.resume is None else what.resume
    assert place is not None
    run, fresh = RunFolder(place), what.resume is None
    if fresh:
        run.check_vacant()
    console = Console()
    teacher = teacher_of(what.teacher)
    source, test = _images(what, teacher)
    made = _student(what, teacher, source)
    if fresh:
        RunFolder.create(place, {"command": "distill"} | plain(what))
    resume = not fresh and run.begun
    if not fresh and not resume:
        run.clear()
    told = f"tested on {len(test):,}" if test is not None else "no test set"
    console.print(
        f"{teacher.about.model} teaches {what.name} on {len(source):,} images ({told})",
        highlight=False,
    )
    file = place / "guide.safetensors"
    # a run that was stopped while it asked the teacher has no guide yet
    made_before = what.guide if what.guide is not None else (file if file.exists() else None)

    def work(bars: RunBars, weight: float = what.weight, folder: Path | None = place) -> FitResult:
        guide = _guide(made_before, teacher, source, bars)
        if what.guide is None and not file.exists():
            guide.save(file)
        return distilled(
            made.net if folder is not None else _student(what, teacher, source).net,
            guide,
            source,
            test=test,
            labels=what.labels,
            steps=what.steps,
            weight=weight,
            kd=what.kd,
            alternation=made.alternation,
            settings=what.settings,
            folder=folder,
            resume=resume and folder is not None,
            listener=bars,
        )

    def discard() -> None:
        if fresh and not run.begun:
            file.unlink(missing_ok=True)
            run.discard()

    about = replace(teacher.about, model=made.recipe.model, student=_changes(what))
    result, code = carry_out(
        work,
        run,
        console,
        command="distill",
        name=what.name,
        title=f"{teacher.about.model} → {what.name}",
        about=about,
        discard=discard,
        finish=finish,
    )
    if result is None or not result.ok:
        return code
    made.recipe.save(place / STUDENT, result.model)
    plain_net = finish(result.model)
    rows = [
        _row("teacher", teacher.net, test or source, None, None),
        _row(what.name, plain_net, test or source, result, place / STUDENT),
    ]
    if what.compare:
        with RunBars(console, "by outputs alone") as bars:
            other = work(bars, 0.0, None)
        rows.append(_row("by outputs alone", finish(other.model), test or source, other, None))
    console.print(_table(rows, tested=test is not None))
    console.print(
        f"student: {place / STUDENT} (guidance.students.load_student gives a plain module)",
        highlight=False,
        soft_wrap=True,
    )
    return code


def guide(
    teacher: str,
    out: Path,
    *,
    images: Path | None = None,
    data: str = "teacher",
    data_root: Path | None = None,
    examples: int | None = None,
    places: int | None = None,
    seed: int = 0,
) -> None:
    """Write what a teacher says of some images to a file, for someone else to train a student from.

    The file is as confidential as the teacher's weights: a network can be rebuilt from it.

    Args:
        teacher: Folder of a run of `twostroke train`, torchvision:NAME, timm:NAME, or a model.safetensors.
        out: Where to write the guide; a file that is there already is not replaced.
        images: Folder with pictures of any size and depth, without labels.
        data: Data set with the images, where no folder is given; teacher is that of the teacher's run.
        data_root: Where named data sets lie or are downloaded to.
        examples: How many images, drawn by the seed; by default all.
        places: Keep so many places of each picture, instead of all.
        seed: Of the draws.
    """
    if out.exists():
        raise RunFolderError(f"{out} is there already: choose another --out or remove it")
    what = DistillConfig(
        teacher=teacher,
        images=images,
        data=data,
        data_root=data_root,
        examples=examples,
        settings=Settings(seed=seed),
    )
    what.check()
    console = Console()
    found = teacher_of(teacher)
    source, _ = _images(what, found)
    with RunBars(console, "teacher") as bars:
        made = Guide.record(found.net, source, places=places, listener=bars)
    made.save(out)
    console.print(f"{made!r}\nguide: {out}", highlight=False, soft_wrap=True, markup=False)


def _images(what: DistillConfig, teacher: Teacher) -> tuple[ExampleSource, ExampleSource | None]:
    """What the teacher looks at, and what the student is tested on."""
    if what.examples is not None and what.examples < 2:
        raise SettingsError(f"--examples is a number of images, 2 or more, not {what.examples}")
    seed = what.settings.seed
    data = _data(what, teacher)
    test = None if data is None else as_taught(data.test, teacher.about)
    if what.images is not None:
        return pictures(what.images, teacher, what.examples, seed), test
    if data is None:
        raise SettingsError(
            "there are no images: give --images FOLDER, or --data with the name of a data set"
        )
    source = as_taught(data.train, teacher.about)
    if what.examples is not None and what.examples < len(source):
        if not isinstance(source, Divisible):
            raise SettingsError(f"{data.name} gives no part of its images: leave --examples out")
        source = source.subset(draw_some(what.examples, len(source), seed=seed).sort().values)
    return source, test


def _data(what: DistillConfig, teacher: Teacher) -> Data | None:
    if what.data == "none" or (what.data == "teacher" and teacher.data is None):
        return None
    named = teacher.data if what.data == "teacher" else what.data
    assert named is not None
    kind = teacher.about.preprocess
    if what.preprocess not in ("none", kind):
        raise SettingsError(
            f"the teacher's images were prepared by --preprocess {kind}, not {what.preprocess}: leave the "
            "option out, it is taken over"
        )
    root = what.data_root or teacher.data_root
    data = replace(what, data=named, data_root=root, preprocess=kind).load()
    if len(data.classes) != len(teacher.about.classes):
        if what.labels:
            raise SettingsError(
                f"{named} has {len(data.classes)} classes and the teacher {len(teacher.about.classes)}: "
                "leave --labels out"
            )
        # images of something else are fine to learn from; there is nothing to test on
        return None if what.images is not None else replace(data, test=data.train)
    return data


def _guide(file: Path | None, teacher: Teacher, source: ExampleSource, listener: RunBars) -> Guide:
    if file is not None:
        guide = Guide.load(file)
        guide.check_teacher(teacher.net)
        return guide
    return Guide.record(teacher.net, source, listener=listener)


def _student(what: DistillConfig, teacher: Teacher, source: ExampleSource) -> Made:
    about, seed = teacher.about, what.settings.seed
    x, _ = source.batch(torch.arange(1))
    recipe = Student(model=about.model, classes=len(about.classes), in_channels=about.shape[0])
    if what.prune:
        net, masks = prune(teacher.net, what.prune)
        return Made(net, Masked(masks=masks), replace(recipe, prune=what.prune))
    if what.bits != 32:
        return Made(quantise(teacher.net, what.bits), Live(), replace(recipe, bits=what.bits))
    if what.width != 1.0:
        net = narrow(teacher.net, what.width, x)
        return Made(net, Live(), replace(recipe, width=what.width))
    recipe = replace(recipe, model=what.model or about.model)
    seed_weights(seed + 1)  # not the weights that the teacher may have begun with
    net = create_model(recipe.model, classes=recipe.classes, in_channels=recipe.in_channels)
    return Made(net, Live(), recipe)


def _changes(what: DistillConfig) -> tuple[tuple[str, float], ...]:
    told = {"width": what.width, "prune": what.prune, "bits": float(what.bits)}
    usual = {"width": 1.0, "prune": 0.0, "bits": 32.0}
    return tuple((name, value) for name, value in told.items() if value != usual[name])


@dataclass(frozen=True)
class _Row:
    name: str
    error: float
    parameters: int
    nbytes: int
    milliseconds: float
    seconds: float | None


def _row(
    name: str, net: nn.Module, test: ExampleSource, result: FitResult | None, file: Path | None
) -> _Row:
    error = math.nan
    if result is not None:
        error = result.error
    elif len(test.classes) > 1:
        error = evaluate(net, test).error
    parameters = list(net.parameters())
    nbytes = sum(p.numel() * p.element_size() for p in parameters)
    return _Row(
        name,
        error,
        sum(p.numel() for p in parameters),
        file.stat().st_size if file is not None else nbytes,
        _milliseconds(net, test),
        None if result is None else result.history.seconds,
    )


def _milliseconds(net: nn.Module, source: ExampleSource, rounds: int = 5) -> float:
    """Of one image, in evaluation mode: the median of a few batches."""
    x, _ = source.batch(torch.arange(min(32, len(source))))
    x = x.to(next(net.parameters()).device)
    times = []
    net.eval()
    with torch.no_grad():
        for _ in range(rounds):
            start = time.perf_counter()
            net(x)
            times.append(time.perf_counter() - start)
    return 1e3 * sorted(times)[rounds // 2] / len(x)


def _table(rows: list[_Row], *, tested: bool) -> Table:
    error = "error %" if tested else "differs %"
    what = (
        "test error"
        if tested
        else "share of the images on which it says another class than the teacher"
    )
    table = Table(caption=f"{error}: {what}", caption_justify="left")
    table.add_column("network")
    for head in (error, "parameters", "bytes", "ms an image", "seconds"):
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(
            row.name,
            "–" if math.isnan(row.error) else f"{row.error:.2f}",
            f"{row.parameters:,}",
            size(row.nbytes),
            f"{row.milliseconds:.3g}",
            "–" if row.seconds is None else f"{row.seconds:.1f}",
        )
    return table
