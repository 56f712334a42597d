"""`twostroke distill`: a network from the supports of another one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
import tyro
from rich.console import Console
from torch import nn

from ..alternation import Alternation, Live
from ..data import ExampleSource
from ..errors import SettingsError
from ..guidance import Guide
from ..guidance import distill as distilled
from ..guidance.students import Student, finish, narrow, prune, quantise
from ..models.catalog import origin
from ..models.outside import built_with
from ..models.sizes import sizes
from ..outcome import Status
from ..runs import RunFolder
from ..sparsity import Masked
from ..training import FitResult, Listener, Settings
from .lessons import LessonOptions, prepared
from .options import Flat, RunOptions, plain
from .progress import RunBars
from .running import carry_out, stoppable
from .student_table import row, table
from .teachers import Teacher

STUDENT = "student.safetensors"  # builds the network and has its weights, in the run's folder


@dataclass(frozen=True, kw_only=True)
class Taught(Settings):
    """Settings without a number of epochs: that follows from the steps."""

    epochs: tyro.conf.Suppress[int] = Settings.epochs


@dataclass(frozen=True, kw_only=True)
class DistillConfig(LessonOptions, RunOptions):
    """Train a network towards the supports of a trained one, from a few images without labels.

    The teacher looks at the images once: one bit a unit, and its outputs. Then a fresh network, a narrower one,
    a pruned one or one of few bits is trained towards that. What comes out is a plain model.

    A guide, which the run's folder keeps (guide.safetensors), is as confidential as the teacher's weights.
    """

    UNUSED: ClassVar = {
        "epochs": "the length of a distillation is --steps: leave --epochs out",
        "image_size": "images have the size that the teacher takes: leave --image-size out",
        "preprocess": "images are prepared as the teacher's were: leave --preprocess out",
    }

    model: str | None = None
    """Another architecture for the student; left out, the teacher's."""
    width: float = 1.0
    """Share of the channels that the student keeps, the strongest ones (pip install 'twostroke[shrink]')."""
    prune: float = 0.0
    """Share of the smallest weights of each layer to prune, from the teacher's weights."""
    bits: Literal[1, 2, 4, 32] = 32
    """Bits of a weight, from the teacher's weights; 32 leaves them as they are."""
    steps: int = 600
    """Optimiser steps in all."""
    weight: float | None = None
    """Weight of the guidance; 0 is distillation by outputs alone. Left out, 30, or 0 with --bits, where
    it was measured to add nothing."""
    kd: float = 1.0
    """Weight of distillation by the teacher's outputs (Hinton et al. 2015)."""
    compare: bool = False
    """Also train the same student by the outputs alone, for the table."""
    settings: Annotated[Taught, Flat] = field(
        default_factory=lambda: Taught(optimizer="muon", batch_size=100)
    )

    def check(self) -> None:
        """Raise `SettingsError` for what cannot be, before any work."""
        super().check()
        kinds = [self.width != 1.0, self.prune != 0.0, self.bits != 32, self.model is not None]
        if sum(kinds) > 1:
            raise SettingsError(
                "--model, --width, --prune and --bits make different students: give one of them"
            )
        for name, fits, words in (
            ("width", 0 < self.width <= 1, "a share of the channels, above 0 and at most 1"),
            ("prune", 0 <= self.prune < 1, "a share of the weights, from 0 and below 1"),
            ("steps", self.steps >= 1, "1 or more"),
            ("weight", 0 <= self.strength < math.inf, "a number of 0 or more"),
            ("kd", 0 <= self.kd < math.inf, "a number of 0 or more"),
        ):
            if not fits:
                raise SettingsError(f"--{name} is {words}, not {getattr(self, name)}")
        if not self.kd and not self.labels:
            raise SettingsError(
                "with --kd 0 the last layer would learn nothing: give --kd a weight, or --labels"
            )
        if self.model is not None:
            origin(self.model)

    @property
    def strength(self) -> float:
        """The weight that counts: students of few bits gain nothing by guidance, as measured."""
        if self.weight is not None:
            return self.weight
        return 30.0 if self.bits == 32 else 0.0

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
    processes = what.settings.processes()
    place = what.out if what.resume is None else what.resume
    assert place is not None
    run, fresh = RunFolder(place), what.resume is None
    config = {"command": "distill"} | plain(what)
    console = Console(quiet=not processes.main, markup=False)
    resume = run.begun
    with processes.together():
        if fresh and processes.main:
            run.check_vacant(config)
        device = processes.device(what.settings.device) or what.settings.torch_device()
        lesson = prepared(what, console, seed=what.settings.seed, device=str(device))
        teacher, source, test = lesson.teacher, lesson.images, lesson.test
        made = _student(what, teacher, source)
    with processes.together():
        if processes.main:
            RunFolder.create(place, config) if fresh else run.configure(config)
            if not resume:
                run.clear()
    told = f"tested on {len(test):,}" if test is not None else "no test set"
    console.print(
        f"{teacher.about.model} teaches {what.name} on {len(source):,} images ({told})",
        highlight=False,
    )
    file = run.guide_file

    def guide_of(bars: Listener) -> Guide:
        if lesson.guide is not None:
            return lesson.guide
        with processes.together():
            if processes.main and not file.exists():  # there where this run was stopped before
                assert teacher.net is not None
                Guide.record(
                    teacher.net, source, views=what.views, places=what.places, listener=bars
                ).save(file)
        return Guide.load(file)

    def work(bars: Listener, net: nn.Module, weight: float, folder: Path | None) -> FitResult:
        return distilled(
            net,
            guide_of(bars),
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
        if processes.main and fresh and not run.begun:
            run.discard()

    result, code = carry_out(
        lambda bars: work(bars, made.net, what.strength, place),
        run,
        console,
        command="distill",
        test=test,
        note=f"{teacher.about.model} teaches {what.name} on {len(source):,} images.",
        track=what.track,
        about=replace(
            teacher.about,
            model=made.recipe.model,
            student=_changes(what),
            sizes=sizes(finish(made.net), made.recipe.build()),
        ),
        what="live test error" if test is not None else "error against the teacher's answers",
        main=processes.main,
        discard=discard,
        remedy=f"--lr {what.settings.peak / 10:g}",
        finish=finish,
    )
    if result is None or not result.ok:
        return code
    other, tested = None, test is not None
    if what.compare:
        bars = RunBars(console, "by outputs alone", "test" if tested else "against the teacher")
        with bars, stoppable():
            net = _student(what, teacher, source).net
            other = work(bars, net, 0.0, None)
        if other.status is Status.INTERRUPTED:
            console.print("The comparison was stopped.")
            other, code = None, 130
    if not processes.main:
        return code
    made.recipe.save(place / STUDENT, result.model)
    shown = test or source
    lines = []
    if teacher.net is not None:
        lines.append(row("teacher", teacher.net, shown, tested=tested))
    small = finish(result.model)
    lines.append(row(what.name, small, shown, tested=tested, result=result, file=place / STUDENT))
    if other is not None:
        lines.append(
            row("by outputs alone", finish(other.model), shown, tested=tested, result=other)
        )
    console.print(table(lines, tested=tested))
    console.print(
        f"student: {place / STUDENT}, as small as it can be (guidance.students.load_student reads it); "
        f"twostroke predict {place} PICTURE uses it",
        highlight=False,
        soft_wrap=True,
    )
    return code


def _student(what: DistillConfig, teacher: Teacher, source: ExampleSource) -> Made:
    about, net = teacher.about, teacher.net
    recipe = Student(model=about.model, classes=len(about.classes), in_channels=about.shape[0])
    if what.model is None and net is not None:
        recipe = replace(recipe, options=built_with(net))
    if net is None and (what.prune or what.bits != 32 or what.width != 1.0):
        raise SettingsError(
            "--width, --prune and --bits begin with the teacher's weights, and there is only a guide: give "
            "--teacher too, or leave them out"
        )
    if what.prune:
        assert net is not None
        net, masks = prune(net, what.prune)
        return Made(net, Masked(masks=masks), replace(recipe, prune=what.prune))
    if what.bits != 32:
        assert net is not None
        return Made(quantise(net, what.bits), Live(), replace(recipe, bits=what.bits))
    if what.width != 1.0:
        assert net is not None
        x, _ = source.batch(torch.arange(1), view=0)
        return Made(narrow(net, what.width, x), Live(), replace(recipe, width=what.width))
    recipe = replace(recipe, model=what.model or about.model)
    torch.manual_seed(
        what.settings.seed + 1
    )  # not the weights that the teacher may have begun with
    return Made(recipe.build(), Live(), recipe)


def _changes(what: DistillConfig) -> tuple[tuple[str, float], ...]:
    told = {"width": what.width, "prune": what.prune, "bits": float(what.bits)}
    usual = {"width": 1.0, "prune": 0.0, "bits": 32.0}
    return tuple((name, value) for name, value in told.items() if value != usual[name])
