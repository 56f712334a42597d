"""What a trained model answers on a test set: kept in the run's folder, for the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import ExampleSource, announce
from ..errors import RunFolderError
from ..runs.files import read_tensors, save_tensors
from ..support.modes import evaluating

SHOWN = 24  # mistakes that are kept as pictures
SIDE = 96  # pixels of such a picture at most


@dataclass(frozen=True)
class Answers:
    """Answers of one model on one test set.

    answers, labels: (examples,) int64, the class that is answered and the one that is right.
    sure: (examples,) float32, the probability that the model gives its answer.
    worst: (mistakes,) int64, the wrong answers that it is surest of, the surest first.
    pictures: (mistakes, channels, height, width) uint8, what they look like, small; channels are 1 or 3.
    classes: names.
    told: lines that the report repeats, such as what data these are and how the run ended.
    """

    answers: Tensor
    labels: Tensor
    sure: Tensor
    worst: Tensor
    pictures: Tensor
    classes: tuple[str, ...]
    told: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        model: nn.Module,
        source: ExampleSource,
        *,
        told: Sequence[str] = (),
        batch_size: int = 500,
    ) -> Answers:
        """Ask the model, in evaluation mode, about every example as it is. One pass, without gradient."""
        device = next(model.parameters()).device
        parts = torch.arange(len(source)).split(batch_size)
        announce(source, parts)
        found = []
        with torch.no_grad(), evaluating(model):
            for part in parts:
                x, y = source.batch(part)
                sure, answer = model(x.to(device)).float().softmax(1).max(1)
                found.append(torch.stack([answer.float(), y.to(device).float(), sure]).cpu())
        answers, labels, sure = torch.cat(found, 1)
        surest = torch.where(answers != labels, sure, -1).argsort(descending=True, stable=True)
        worst = surest[: min(SHOWN, int((answers != labels).sum()))]
        pictures = torch.zeros(0, 1, 1, 1, dtype=torch.uint8)
        if len(worst):
            pictures = torch.cat([_picture(source, index) for index in worst.split(1)])
        return cls(
            answers.long(), labels.long(), sure, worst, pictures, tuple(source.classes), tuple(told)
        )

    @property
    def error(self) -> float:
        """Share of wrong answers in %."""
        return 100 * float((self.answers != self.labels).double().mean())

    def save(self, path: Path) -> None:
        """Write as safetensors; `RunFolderError` where that fails."""
        tensors = {name: getattr(self, name) for name in ("answers", "labels", "worst")}
        tensors = {name: tensor.to(torch.int32) for name, tensor in tensors.items()}
        tensors |= {"sure": self.sure, "pictures": self.pictures}
        header = {"classes": json.dumps(self.classes), "told": json.dumps(self.told)}
        save_tensors(path, tensors, header)

    @classmethod
    def load(cls, path: Path) -> Answers:
        """Read what `save` wrote; `RunFolderError` for anything else."""
        tensors, header = read_tensors(path)
        try:
            classes, told = (json.loads(header[name]) for name in ("classes", "told"))
            return cls(
                tensors["answers"].long(),
                tensors["labels"].long(),
                tensors["sure"],
                tensors["worst"].long(),
                tensors["pictures"],
                tuple(map(str, classes)),
                tuple(map(str, told)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunFolderError(f"{path} has no answers of a model ({error})") from error


def _picture(source: ExampleSource, index: Tensor) -> Tensor:
    """An example as one can look at it: (1, 1 or 3, height, width) uint8, of at most 96 pixels a side."""
    x = source.batch(index)[0].detach().float().cpu()
    mean, std = (getattr(source, name, None) for name in ("mean", "std"))
    if isinstance(mean, Tensor) and isinstance(std, Tensor):
        x = x * std.cpu()[:, None, None] + mean.cpu()[:, None, None]
    if (
        x.min() < -0.01 or x.max() > 1.01
    ):  # prepared in another way: from its darkest to its brightest
        x = (x - x.min()) / (x.max() - x.min()).clamp_min(1e-9)
    largest = max(x.shape[2:])
    if largest > SIDE:
        size = [max(1, round(side * SIDE / largest)) for side in x.shape[2:]]
        x = F.interpolate(x, size, mode="bilinear", antialias=True)
    x = x if x.shape[1] == 3 else x[:, :1]
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)
