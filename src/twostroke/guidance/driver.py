"""`distill`: train a student towards a guide, in the same loop as everything else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..alternation import Alternation
from ..data import Data, Examples, ExampleSource, Repeated
from ..errors import DataError, SettingsError
from ..training import FitResult, Settings, fit
from ..training.listener import Listener
from .guide import Guide
from .images import as_source
from .lesson import Lesson
from .objective import Guided
from .pairs import Pairs, pair

# steps of an epoch, where the images give fewer: evaluation and checkpoints come once an epoch
_STEPS = 50
_BATCH = 100


def distill(
    student: nn.Module,
    guide: Guide,
    images: object,
    *,
    test: object = None,
    labels: bool = False,
    steps: int | None = None,
    pairs: Pairs | None = None,
    weight: float = 30.0,
    kd: float = 1.0,
    share: float = 1.0,
    margins: tuple[float, float] = (1.0, 0.5),
    alternation: Alternation | None = None,
    settings: Settings | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    listener: Listener | None = None,
    **changes: Any,
) -> FitResult:
    """Train `student`, in place, towards what a guide says of its images; they need no labels.

    `images` are those that the guide was recorded from, in the same order: a source of examples or a tensor.
    `test`, a source with labels or a pair of tensors (x, y), is what errors are reported on; left out, they
    are the share of the guide's images on which the student says another class than the teacher.
    `labels=True` also trains on the images' own labels. `weight` is of the guidance, for the first `share` of
    the run; its margin goes evenly from the first of `margins` to the second. `kd` is the weight of Hinton's
    loss on the guide's outputs. With `weight=0` any student will do.
    `pairs` left out are what `pair` finds, which the listener is told. `alternation` is `fit`'s: masks that
    stay for a pruned student, `sparsity.Masked(masks=...)`.

    Without `settings` the optimiser is Muon, with `settings.but(**changes)` as in `fit`. `steps` are in
    all, about, instead of `epochs`; few images are repeated so that an epoch has 50 steps. `folder`,
    `resume` and `listener` are `fit`'s.

    Raises `SupportMismatchError` for images that the guide is not of, or a student that does not fit,
    `SettingsError` where the last layer would learn nothing, for a batch of one with batch norm, and what
    `fit` raises.
    """
    source = as_source(images)
    guide.check(source)
    settings = settings or Settings(optimizer="muon", batch_size=min(_BATCH, len(guide)))
    settings = settings.but(**changes)
    _check_batch(student, settings, len(guide))
    times, settings = _epochs(len(guide), settings, steps)
    tested = _tested(test)
    classes = None if tested is None else tuple(tested.classes)
    lesson = Lesson(source, guide, labels=labels, classes=classes)
    note = f"{len(guide):,} images of a guide" + ("" if tested else ", tested on its answers")
    data = Data("guide", Repeated(lesson, times), tested or lesson, lesson.classes, note)
    if pairs is None and weight:
        torch.manual_seed(settings.seed)  # of connectors
        x = source.batch(torch.arange(min(2, len(source))), view=0, seed=guide.seed)[0]
        device = next((p.device for p in student.parameters()), torch.device("cpu"))
        pairs = pair(student, guide.sites, x.to(device))
    objective = Guided(
        guide,
        pairs or Pairs([]),
        times=times,
        weight=weight,
        kd=kd,
        labels=float(labels),
        share=share,
        margins=margins,
    )
    listener = listener or Listener()
    if weight:
        listener.note(f"guided at {len(objective.pairs)} sites:\n{pairs}")
    return fit(
        student,
        data,
        alternation=alternation,
        objective=objective,
        settings=settings,
        folder=folder,
        resume=resume,
        identity={"guide": guide.teacher, "images": guide.images.fingerprint, "pairs": str(pairs)},
        listener=listener,
    )


def _epochs(images: int, settings: Settings, steps: int | None) -> tuple[int, Settings]:
    """How often an epoch meets each image, and settings with the number of epochs."""
    if steps is None:
        return 1, settings
    if not isinstance(steps, int) or steps < 1:
        raise SettingsError(f"steps is a whole number of at least 1, not {steps!r}")
    batch = settings.batch_size
    epoch = min(steps, _STEPS)
    times = max(1, math.ceil(epoch * batch / images))
    return times, settings.but(epochs=max(1, round(steps / math.ceil(times * images / batch))))


def _check_batch(student: nn.Module, settings: Settings, images: int) -> None:
    norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in student.modules())
    if norms and (settings.batch_size == 1 or images == 1):
        raise SettingsError(
            "batch norm has no statistics of a batch of one: set batch_size to 2 or more, and give 2 images "
            "or more"
        )


def _tested(test: object) -> ExampleSource | None:
    if test is None:
        return None
    if (
        isinstance(test, tuple | list)
        and len(test) == 2
        and all(isinstance(t, Tensor) for t in test)
    ):
        x, y = test
        channels = x.shape[1] if x.ndim == 4 else 0
        return Examples(x, y, mean=[0.0] * channels, std=[1.0] * channels)
    if isinstance(test, ExampleSource):
        return test
    raise DataError(
        f"test is a source of examples with labels or a pair of tensors (x, y), not {type(test).__name__}"
    )
