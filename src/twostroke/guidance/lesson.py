"""`Lesson`: a guide's images as a student meets them, with the teacher's answers for labels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data import ExampleSource
from ..data.examples import on_device
from ..errors import DataError
from .guide import Guide


class Lesson:
    """A source of examples over the images of a guide, in views that the guide has.

    View v is the guide's view `v % views`, drawn by the guide's seed. Labels are the images' own if
    `labels`, else the class of the teacher's highest output, or 0 where the guide has no outputs. `classes`
    are those of the test set, where there is one.

    Raises `DataError` for classes that do not belong together.
    """

    def __init__(
        self,
        images: ExampleSource,
        guide: Guide,
        *,
        labels: bool = False,
        classes: tuple[str, ...] | None = None,
    ) -> None:
        self.images, self.guide, self.labels = images, guide, labels
        if labels:
            own = tuple(images.classes)
            if classes is not None and own != classes:
                raise DataError(
                    f"the images have the classes {', '.join(own[:6])} and the test set "
                    f"{', '.join(classes[:6])}: labels must mean the same in both"
                )
            self.classes = own
            return
        outputs = guide.outputs
        if outputs is None:
            self._answers = torch.zeros(guide.views, len(guide), dtype=torch.int64)
            self.classes = classes or ("0", "1")
            return
        self._answers = outputs.argmax(1).view(guide.views, len(guide))
        self.classes = classes or tuple(str(k) for k in range(outputs.shape[1]))
        if outputs.shape[1] != len(self.classes):
            raise DataError(
                f"the teacher has {outputs.shape[1]} outputs and the test set {len(self.classes)} classes: "
                "test on the classes that the teacher knows"
            )

    def __len__(self) -> int:
        return len(self.images)

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
        view = (view or 0) % self.guide.views
        x, y = self.images.batch(indices, view=view, seed=self.guide.seed)
        return x, y if self.labels else self._answers[view, indices.cpu()].to(y.device)

    def to(self, device: torch.device | str) -> Lesson:
        """The same with images on another device, where their source can be moved."""
        images = on_device(self.images, device)
        return Lesson(images, self.guide, labels=self.labels, classes=self.classes)
