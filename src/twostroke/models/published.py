"""What is known of published weights without fetching them, and models that begin with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ..errors import SettingsError
from .catalog import create_model, origin


@dataclass(frozen=True)
class Published:
    """Published weights of a model, and how images were prepared for them.

    tag: their name. classes: in the order of outputs; numbers where no names are published.
    shape: of an image, (channels, height, width). mean, std: by channel, of pixels in [0, 1].
    crop: part of a picture's shorter side that is seen.
    """

    model: str
    tag: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float

    def build(
        self, *, classes: int | None = None, in_channels: int | None = None
    ) -> tuple[nn.Module, list[str]]:
        """The model with these weights, and the layers that they do not fit and are drawn again, in words.

        Raises `WeightsError` where they cannot be fetched.
        """
        options: dict[str, Any] = {"weights": "DEFAULT"}
        fresh = []
        if self.model.startswith("timm/"):
            options = {"pretrained": True}  # timm fits the first layer to any channels
        elif in_channels not in (None, self.shape[0]):
            fresh.append(f"the first layer (for {in_channels} channels, not {self.shape[0]})")
        if classes not in (None, len(self.classes)):
            fresh.append(f"the last layer (for {classes} classes, not {len(self.classes)})")
        return create_model(self.model, classes=classes, in_channels=in_channels, **options), fresh


def published(model: str) -> Published:
    """The published weights of a model of torchvision or timm, which `build` fetches.

    Raises `UnknownNameError` as `create_model` does, and `SettingsError` for a model that has none.
    """
    source, name = origin(model)
    if source == "torchvision":
        import torchvision  # it takes long to import

        weights = torchvision.models.get_model_weights(name).DEFAULT
        prepared = weights.transforms()
        side = int(prepared.crop_size[0])
        return Published(
            f"torchvision/{name}",
            weights.name,
            tuple(weights.meta["categories"]),
            (3, side, side),
            tuple(prepared.mean),
            tuple(prepared.std),
            min(1.0, side / int(prepared.resize_size[0])),
        )
    if source == "timm":
        import timm

        known = timm.get_pretrained_cfg(name)
        if known is not None and known.has_weights:
            channels, height, width = known.input_size
            return Published(
                f"timm/{name}",
                str(known.tag or "the default"),
                tuple(map(str, range(known.num_classes))),
                (channels, height, width),
                tuple(known.mean),
                tuple(known.std),
                min(1.0, float(known.crop_pct or 1.0)),
            )
    raise SettingsError(f"{model} has no published weights")
