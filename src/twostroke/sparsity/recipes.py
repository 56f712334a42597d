"""How long the three phases are and how fast they learn: published recipes by the net's name."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..errors import SettingsError
from ..training.settings import Schedule

SCALES = {"full": 1.0, "short": 0.2, "smoke": 0.0}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Epochs and initial learning rates of the dense, the sparse and the second dense phase.

    The learning rate falls within each phase by `schedule`; the sources name initial rates only.
    A phase of 0 epochs is left out.
    """

    epochs: tuple[float, float, float] = (90, 45, 45)
    lrs: tuple[float, float, float] = (1e-1, 1e-2, 1e-3)
    weight_decay: float = 1e-4
    batch_size: int = 256
    schedule: Schedule = "cosine"

    def __post_init__(self) -> None:
        if len(self.epochs) != 3 or len(self.lrs) != 3:
            raise SettingsError("a recipe has three phases: dense, sparse, dense")
        if any(n < 0 or not math.isfinite(n) for n in self.epochs) or sum(self.epochs) == 0:
            raise SettingsError(f"epochs are 0 or more, and not all 0: {self.epochs}")
        if any(not lr > 0 for lr in self.lrs):
            raise SettingsError(f"learning rates must be positive: {self.lrs}")

    def scaled(self, scale: str) -> Recipe:
        """All phases at "full" length, at about a fifth ("short"), or one epoch each ("smoke")."""
        if scale not in SCALES:
            raise SettingsError(f"scale is one of {', '.join(SCALES)}, not {scale!r}")
        share = SCALES[scale]
        a, b, c = (max(1, round(share * n)) if n else 0 for n in self.epochs)
        return replace(self, epochs=(a, b, c))

    def whole(self) -> tuple[int, int, int]:
        """Epochs in whole numbers, at least 1 where there is a phase (VGG-16's 1.25 becomes 1)."""
        a, b, c = (max(1, round(n)) if n else 0 for n in self.epochs)
        return a, b, c


# Han et al. 2017; ResNet-18's, whose weight decay and batch are those of torchvision's training
RECIPES = {
    "resnet18": Recipe(),
    "googlenet": Recipe(epochs=(60, 11, 22), lrs=(1e-2, 1e-3, 1e-4), weight_decay=2e-4),
    "vgg16": Recipe(epochs=(74, 1.25, 18), lrs=(1e-2, 1e-4, 1e-5), weight_decay=5e-4),
}


def recipe(model: str) -> Recipe:
    """The recipe of a net by its name; ResNet-18's for nets without one of their own."""
    return RECIPES.get(model.rpartition("/")[2], RECIPES["resnet18"])
