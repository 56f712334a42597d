"""What a guided student descends on: guidance, distillation of outputs, labels."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SettingsError
from ..store.choose import free_space
from ..training.evaluate import Loss
from ..training.objective import Batch, Objective
from .guide import Guide
from .loss import guided
from .pairs import Pairs
from .told import Told

Place = Callable[[Tensor, int], tuple[Tensor, Tensor]]


def distillation(
    outputs: Tensor,  # (batch, classes)
    teacher: Tensor,  # (batch, classes)
    temperature: float,
) -> Tensor:  # scalar
    """T² times the divergence of softened outputs from the teacher's (Hinton et al. 2015)."""
    wide = torch.promote_types(outputs.dtype, torch.float32)
    own, other = (F.log_softmax(z.to(wide) / temperature, 1) for z in (outputs, teacher))
    return temperature**2 * F.kl_div(own, other, log_target=True, reduction="batchmean")


class Guided(Objective):
    """`weight · guidance + kd · distillation + labels · loss`, for `fit` on the images of a guide.

    place: which image and view of the guide an example of the training source is, as `Lesson.place` says;
        left out, the source has the guide's images in their order.

    weight: of `guidance.loss()`, over the first `share` of the run; 0 after it.
    margins: of guidance, at the beginning of the run and at its end; it falls or rises evenly.
    kd: of Hinton's loss on the guide's outputs, softened by `temperature`.
    labels: of `loss` on the labels of the images.

    Raises `SettingsError` for weights and margins out of range, and where nothing teaches the last layer:
    `kd` with a guide without outputs, or neither `kd` nor `labels`.
    """

    def __init__(
        self,
        guide: Guide,
        pairs: Pairs,
        *,
        place: Place | None = None,
        weight: float = 30.0,
        kd: float = 1.0,
        labels: float = 0.0,
        temperature: float = 4.0,
        share: float = 1.0,
        margins: tuple[float, float] = (1.0, 0.5),
        loss: Loss = F.cross_entropy,
    ) -> None:
        super().__init__(loss)
        for name, value in (("weight", weight), ("kd", kd), ("labels", labels)):
            if not 0 <= value < math.inf:
                raise SettingsError(f"{name} is a number of 0 or more, not {value}")
        if not temperature > 0 or not 0 <= share <= 1:
            raise SettingsError(
                f"temperature is above 0 and share in [0, 1], not {temperature} and {share}"
            )
        if not min(margins) > 0:
            raise SettingsError(f"margins are two numbers above 0, not {margins}")
        if kd and guide.outputs is None and not labels:
            raise SettingsError(
                "the guide has no outputs and there are no labels, so the last layer would learn nothing: "
                "record the guide with outputs=True, or train with labels"
            )
        if not kd and not labels:
            raise SettingsError(
                "kd=0 and no labels: the last layer would learn nothing; give one of them a weight"
            )
        self.guide, self.pairs, self.place = guide, pairs, place
        self._device = torch.device("cpu")
        self.weight, self.labels = weight, labels
        self.kd = 0.0 if guide.outputs is None else kd
        self.temperature, self.share, self.margins = temperature, share, margins
        self.modules: dict[str, nn.Module] = {"connectors": pairs.connectors}
        # of a student that knows nothing: its sides are right half of the time, its outputs are even
        classes = 1 if guide.outputs is None else guide.outputs.shape[1]
        self.first_extra = weight * (1 + margins[0] ** -2) + kd * temperature**2 * math.log(classes)

    def told(self, batch: Batch) -> Told:
        """What the guide tells of a batch."""
        device = batch.x.device
        if device != self._device:  # once: where it fits, all of it goes to the device
            self._device = device
            if self.guide.nbytes <= (free_space(device, None).device or 0) // 2:
                self.guide = self.guide.to(device)
        if self.place is None:
            images, view = batch.indices.cpu(), torch.tensor(batch.view % self.guide.views)
        else:
            images, view = self.place(batch.indices, batch.view)
        return self.guide.batch(images, view).to(device)

    def __call__(self, net: nn.Module, batch: Batch) -> Tensor:
        """Mean over the batch, a scalar with gradient; runs `net` forward once."""
        told = self.told(batch)
        if self.weight and batch.progress < self.share:
            first, last = self.margins
            margin = first + (last - first) * batch.progress
            with guided(net, told, pairs=self.pairs, margin=margin) as guidance:
                outputs = net(batch.x)
            total = self.weight * guidance.loss()
        else:
            outputs = net(batch.x)
            total = torch.zeros((), device=batch.x.device)
        if self.kd and told.outputs is not None:
            total = total + self.kd * distillation(outputs, told.outputs, self.temperature)
        if self.labels:
            total = total + self.labels * self.loss(outputs, batch.y)
        return total
