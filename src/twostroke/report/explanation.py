"""Which pixels a logit comes from: contributions that add up to it exactly, as a table and a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import SettingsError
from ..support import record
from ..theory import linear_map
from .saliency import draw_contributions
from .sheet import Sheet
from .subject import Subject


@dataclass(frozen=True)
class Explanation:
    """What each pixel adds to the logit of one class; `pixels.sum() + bias` is the logit.

    `logits` is (classes,), `pixels` (channels, height, width).
    """

    subject: Subject
    classes: tuple[str, ...]
    chosen: int
    logits: Tensor
    pixels: Tensor
    bias: float

    def sheet(self, model: str) -> Sheet:
        """The sum, part by part, and how far it is from the logit of the live network."""
        total, logit = float(self.pixels.sum()), float(self.logits[self.chosen])
        rows = {
            "pixels that add": float(self.pixels.clamp_min(0).sum()),
            "pixels that take away": float(self.pixels.clamp_max(0).sum()),
            "sum over pixels": total,
            "bias part": self.bias,
            "sum and bias": total + self.bias,
            "logit of the network": logit,
        }
        gap = ("gap", f"{abs(total + self.bias - logit):.1e}")
        return Sheet(
            f"{model} on {self.subject.name}: logit of class {self.classes[self.chosen]}",
            ("part", "value"),
            (*((name, f"{value:+.6f}") for name, value in rows.items()), gap),
        )

    def ranked(self) -> str:
        """The highest logits, and the image's label."""
        best = self.logits.topk(min(3, len(self.logits)))
        told = (
            f"{self.classes[k]} ({v:.2f})"
            for v, k in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        )
        truth = f"; its label is {self.subject.truth}" if self.subject.truth is not None else ""
        return f"highest logits: {', '.join(told)}{truth}"

    def draw(self, path: Path, model: str) -> None:
        """The image beside its pixels' contributions."""
        subject, answer = self.subject, int(self.logits.argmax())
        answered = "" if self.chosen == answer else f" (the answer is {self.classes[answer]})"
        label = f", labelled {subject.truth}" if subject.truth is not None else ""
        figures = (
            f"logit {float(self.logits[self.chosen]):.2f} = {float(self.pixels.sum()):.2f} from pixels "
            f"{self.bias:+.2f} from biases"
        )
        draw_contributions(
            subject.shown,
            self.pixels,
            path,
            title=f"class {self.classes[self.chosen]}{answered}: {figures.replace('-', '−')}",
            note=f"{model}; {subject.name}{label}; {subject.zero} contributes nothing",
        )


def explanation(
    net: nn.Module, subject: Subject, classes: tuple[str, ...], target: str | None = None
) -> Explanation:
    """Explain the logit of class `target`, by name or number; by default that of the network's answer.

    The network is in evaluation mode and float64. Raises `SettingsError` for a class that is not there,
    and what `record` and `linear_map` raise.
    """
    x = subject.x.double()[None]
    with torch.no_grad():
        logits = net(x)[0]
    chosen = int(logits.argmax()) if target is None else _class_of(target, classes)
    found = linear_map(net, record(net, x, pooling=True), x).attribution(chosen)
    return Explanation(subject, classes, chosen, logits, found.inputs[0], float(found.bias))


def _class_of(target: str, classes: tuple[str, ...]) -> int:
    """The class that is meant: by name, else by number."""
    if target in classes:
        return classes.index(target)
    if target.isdecimal() and int(target) < len(classes):
        return int(target)
    few = ", ".join(classes[:12]) + (", ..." if len(classes) > 12 else "")
    raise SettingsError(
        f"--target {target}: there are {len(classes)} classes, by name or number from 0: {few}"
    )
