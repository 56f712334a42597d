"""`Lesson`: a guide's images as a student meets them, with the teacher's answers for labels."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ..data import ExampleSource, draw_order
from ..data.examples import on_device
from ..errors import DataError
from .guide import Guide


class Lesson:
    """A source of examples over the images of a guide, in views that the guide has.

    Without `visits` it has the images in their order; view v is the guide's view `v % views`. With `visits`
    it has so many examples, and one view after the other walks through the images in an order that is
    drawn once, from one view of the guide to the next: so every epoch of `fit` has the length that is
    wanted, whatever the number of images. `place` tells which image and view an example is.

    Images come as the guide's seed draws them. Labels are the images' own if `labels`, else the class of the
    teacher's highest output, or 0 where the guide has no outputs. `classes` are those of the test set,
    where there is one.

    Raises `DataError` for classes that do not belong together.
    """

    def __init__(
        self,
        images: ExampleSource,
        guide: Guide,
        *,
        visits: int | None = None,
        labels: bool = False,
        classes: tuple[str, ...] | None = None,
    ) -> None:
        self.images, self.guide, self.labels, self.visits = images, guide, labels, visits
        self._order = draw_order(len(guide), seed=guide.seed)
        outputs = guide.outputs
        own = tuple(images.classes) if labels else classes
        if labels and classes is not None and own != classes:
            raise DataError(
                f"the images have the classes {_few(own)} and the test set {_few(classes)}: labels must mean "
                "the same in both"
            )
        known = outputs.shape[1] if outputs is not None else len(own or ("0", "1"))
        self.classes = own or tuple(str(k) for k in range(known))
        if known != len(self.classes):
            whose = "images" if labels else "test set"
            raise DataError(
                f"the teacher has {known} outputs and the {whose} {len(self.classes)} classes: they must be "
                "the classes that the teacher knows"
            )
        self._answers = (
            torch.zeros(guide.views, len(guide), dtype=torch.int64)
            if outputs is None
            else outputs.argmax(1).view(guide.views, len(guide))
        )

    def __len__(self) -> int:
        return len(self.guide) if self.visits is None else self.visits

    def place(
        self,
        indices: Tensor,  # (batch,) integer, in [0, len)
        view: int,
    ) -> tuple[Tensor, Tensor]:  # (batch,) each, int64, on the CPU
        """Numbers of the images that these examples are, and of the guide's views that show them."""
        indices, views = indices.cpu().to(torch.int64), self.guide.views
        if self.visits is None:
            return indices, torch.full_like(indices, view % views)
        steps = view * self.visits + indices
        return self._order[steps % len(self.guide)], (steps // len(self.guide)) % views

    @property
    def shape(self) -> tuple[int, int, int]:
        """One image's (channels, height, width)."""
        return self.images.shape

    def batch(
        self,
        indices: Tensor,  # (batch,) integer, in [0, len)
        *,
        view: int | None = None,
        seed: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Fetch x (batch, channels, height, width) and y (batch,); `seed` is the guide's, not this one."""
        images, views = self.place(indices, view or 0)
        if len(views) == 0 or bool((views == views[0]).all()):
            shown = int(views[0]) if len(views) else 0
            x, y = self.images.batch(images, view=shown, seed=self.guide.seed)
        else:
            parts = [(views == v).nonzero().view(-1) for v in views.unique().tolist()]
            found = [
                self.images.batch(images[part], view=int(views[part[0]]), seed=self.guide.seed)
                for part in parts
            ]
            back = torch.cat(parts).argsort()
            x, y = (torch.cat(tensors) for tensors in zip(*found, strict=True))
            x, y = x[back.to(x.device)], y[back.to(y.device)]
        return x, y if self.labels else self._answers[views, images].to(y.device)

    def to(self, device: torch.device | str) -> Lesson:
        """The same with images on another device, where their source can be moved."""
        images = on_device(self.images, device)
        moved = copy.copy(self)
        moved.images = images
        return moved


def _few(names: tuple[str, ...] | None) -> str:
    return ", ".join((names or ())[:6])
