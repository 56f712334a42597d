"""`distill`: train a student towards a guide, in the same loop as everything else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..alternation import Alternation
from ..data import Data, Examples, ExampleSource
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
    all, instead of `epochs`; an epoch, after which comes evaluation and a checkpoint, then has about 50 of
    them, whatever the number of images. `folder`, `resume` and `listener` are `fit`'s.

    Raises `SupportMismatchError` for images that the guide is not of, or a student that does not fit,
    `SettingsError` where the last layer would learn nothing, for a batch of one with batch norm, and what
    `fit` raises.
    """
    source = as_source(images)
    guide.check(source)
    settings = settings or Settings(optimizer="muon", batch_size=min(_BATCH, len(guide)))
    settings = settings.but(**changes)
    visits, settings = _epochs(settings, steps)
    tested = _tested(test)
    classes = None if tested is None else tuple(tested.classes)
    lesson = Lesson(source, guide, visits=visits, labels=labels, classes=classes)
    told = f"{len(guide):,} images of a guide" + ("" if tested else ", tested on its answers")
    plain = Lesson(source, guide, labels=labels, classes=classes)
    data = Data("guide", lesson, tested or plain, lesson.classes, told)
    if pairs is None and weight:
        x = source.batch(torch.arange(min(2, len(source))), view=0, seed=guide.seed)[0]
        device = next((p.device for p in student.parameters()), torch.device("cpu"))
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(settings.seed)  # of connectors
            pairs = pair(student, guide.sites, x.to(device))
    pairs = pairs or Pairs([])
    _check_batch([student, pairs.connectors], settings, len(lesson))
    objective = Guided(
        guide,
        pairs,
        place=lesson.place,
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
        identity={
            "guide": guide.teacher,
            "images": guide.images.fingerprint,
            "pairs": str(pairs),
            "terms": [weight, kd, float(labels), share, *margins],
            "steps": steps,
        },
        listener=listener,
    )


def _epochs(settings: Settings, steps: int | None) -> tuple[int | None, Settings]:
    """How many examples an epoch visits, and settings with the number of epochs: `steps` in all, exactly."""
    if steps is None:
        return None, settings
    if not isinstance(steps, int) or steps < 1:
        raise SettingsError(f"steps is a whole number of at least 1, not {steps!r}")
    epochs = min(
        (n for n in range(1, steps + 1) if steps % n == 0), key=lambda n: abs(steps / n - _STEPS)
    )
    return steps // epochs * settings.batch_size, settings.but(epochs=epochs)


def _check_batch(modules: Sequence[nn.Module], settings: Settings, examples: int) -> None:
    """Raise `SettingsError` where batch norm would meet a single example."""
    norms = any(
        isinstance(m, nn.modules.batchnorm._BatchNorm) for one in modules for m in one.modules()
    )
    least = examples % settings.batch_size or settings.batch_size
    if norms and least == 1:
        raise SettingsError(
            f"batch norm has no statistics of a batch of one, which {examples} examples in batches of "
            f"{settings.batch_size} end with: set another batch_size, or give steps, which fill every batch"
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
