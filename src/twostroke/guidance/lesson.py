"""`Lesson`: a guide's images as a student meets them, in views that the guide has."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data import ExampleSource
from ..errors import DataError
from .guide import Guide


class Lesson:
    """A source of examples over the images of a guide, each `times` times an epoch.

    Example i of view v is image `i % images` in the view `(v · times + i // images) % views` of the guide's
    `views`. Labels are the images' own if `labels`, else what the teacher puts out most of, or 0 where the
    guide has no outputs. `classes` are those of the test set, where there is one.

    Raises `DataError` for labels that are no classes of the test set.
    """

    def __init__(
        self,
        images: ExampleSource,
        guide: Guide,
        *,
        times: int = 1,
        labels: bool = False,
        classes: tuple[str, ...] | None = None,
    ) -> None:
        self.images, self.guide, self.times = images, guide, times
        self._answers = None
        if not labels:
            outputs = guide.outputs
            self._answers = (
                torch.zeros(guide.views * len(guide), dtype=torch.int64)
                if outputs is None
                else outputs.argmax(1)
            )
        width = 2 if guide.outputs is None else guide.outputs.shape[1]
        self.classes = classes or (
            images.classes if labels else tuple(str(k) for k in range(max(width, 2)))
        )
        if not labels and guide.outputs is not None and width != len(self.classes):
            raise DataError(
                f"the teacher has {width} outputs and the test set {len(self.classes)} classes: test on the "
                "classes that the teacher knows"
            )
        if labels and tuple(images.classes) != tuple(self.classes):
            raise DataError(
                f"the images have the classes {', '.join(images.classes[:6])} and the test set "
                f"{', '.join(self.classes[:6])}: labels must mean the same in both"
            )

    def __len__(self) -> int:
        return self.times * len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """One image's (channels, height, width)."""
        return self.images.shape

    def shown(self, indices: Tensor, view: int | None) -> tuple[Tensor, Tensor]:
        """Which image, and which of the guide's views of it, each example is: (batch,) int64 both."""
        count = len(self.images)
        turn = (view or 0) * self.times + indices // count
        return indices % count, turn % self.guide.views

    def batch(
        self,
        indices: Tensor,  # (batch,) integer, in [0, len)
        *,
        view: int | None = None,
        seed: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Fetch x (batch, channels, height, width) and y (batch,); augmented by the guide's own seed."""
        which, turn = self.shown(indices, view)
        x, y = self._fetch(which, turn)
        if self._answers is not None:
            y = self._answers[(turn * len(self.images) + which).cpu()].to(y.device)
        return x, y

    def _fetch(self, which: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
        seed = self.guide.seed
        turns = turn.unique().tolist()
        if len(turns) == 1:
            return self.images.batch(which, view=turns[0], seed=seed)
        order = [(turn == t).nonzero().view(-1) for t in turns]
        parts = [
            self.images.batch(which[at], view=t, seed=seed)
            for t, at in zip(turns, order, strict=True)
        ]
        back = torch.cat(order).argsort()
        x, y = (torch.cat(part) for part in zip(*parts, strict=True))
        return x[back.to(x.device)], y[back.to(y.device)]
