"""Models by name: our own, torchvision's and timm's."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from torch import nn

from ..errors import SettingsError, UnknownNameError
from .allcnn import AllCNN
from .blocks import require_positive
from .mini import Mini
from .nin import NIN


@dataclass(frozen=True)
class Entry:
    """One of our own models: what builds it, and one line on what it is."""

    build: Callable[..., nn.Module]
    description: str


_VARIANTS = {
    "allcnn": ("allcnn", "All-CNN-{}: pooling replaced by strided convolutions"),
    "base": ("base", "the base net {} with max pooling"),
    "strided": ("strided", "Strided-CNN-{}: the convolution before each pool strides instead"),
    "convpool": ("convpool", "ConvPool-CNN-{}: a convolution more before each pool"),
}
MODELS: dict[str, Entry] = {
    "allcnn-mini": Entry(Mini, "small all-convolutional net for digits, seconds an epoch on a CPU")
}
for _prefix, (_variant, _text) in _VARIANTS.items():
    for _letter in "abc":
        MODELS[f"{_prefix}-{_letter}"] = Entry(
            partial(AllCNN, _letter, _variant),
            f"{_text.format(_letter.upper())} (Springenberg et al. 2014)",
        )
for _data in ("mnist", "svhn", "cifar10", "cifar100"):
    MODELS[f"nin-{_data}"] = Entry(
        partial(NIN, _data), f"Network in Network as for {_data} (Lin et al. 2013)"
    )
# their auxiliary heads would make the output a tuple
_PLAIN_OUTPUT = {"googlenet", "inception_v3"}


def list_models(pattern: str = "*") -> list[str]:
    """Names that `create_model` takes and that match a shell pattern.

    Our own first, then `torchvision/NAME`, then `timm/NAME` if timm is installed.
    """
    names = list(MODELS)
    if "/" in pattern or "*" in pattern or "?" in pattern or "[" in pattern:
        names += [f"torchvision/{name}" for name in _torchvision_names()]
        names += [f"timm/{name}" for name in _timm_names()]
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]


def create_model(
    name: str, *, classes: int = 10, in_channels: int = 3, **options: Any
) -> nn.Module:
    """Build a model by name; weights are random unless an option of the model asks for others.

    A plain name is looked up among our own, then in torchvision, then in timm; `torchvision/NAME` and
    `timm/NAME` say which. A torchvision model whose images have other than 3 channels gets a first
    convolution of that many. `options` go to whatever builds the model.

    Raises:
        UnknownNameError: there is no such model; the text lists near matches.
        SettingsError: `classes` or `in_channels` is below 1, or the model does not take an option.
    """
    require_positive(classes=classes, in_channels=in_channels)
    library, _, plain = name.rpartition("/")
    try:
        if not library and plain in MODELS:
            return MODELS[plain].build(in_channels=in_channels, classes=classes, **options)
        if library in ("", "torchvision") and plain in _torchvision_names():
            return _from_torchvision(plain, classes, in_channels, options)
        if library in ("", "timm") and plain in _timm_names(required=library == "timm"):
            import timm

            made = timm.create_model(
                plain, num_classes=classes, in_chans=in_channels, **({"pretrained": False} | options)
            )
            return cast(nn.Module, made)
    except TypeError as error:
        raise SettingsError(f"{name} does not take these options: {error}") from error
    known = [*MODELS, *_torchvision_names(), *_timm_names()]
    near = difflib.get_close_matches(plain, known, 4)
    hint = f" Near matches: {', '.join(near)}." if near else ""
    raise UnknownNameError(f"there is no model {name!r}.{hint} `twostroke models` lists them")


def _from_torchvision(
    name: str, classes: int, in_channels: int, options: dict[str, Any]
) -> nn.Module:
    from torchvision.models import get_model

    if name in _PLAIN_OUTPUT:
        options = {"aux_logits": False, "init_weights": True} | options
    model = cast(nn.Module, get_model(name, num_classes=classes, **options))
    if in_channels != 3:
        path, first = next((p, m) for p, m in model.named_modules() if isinstance(m, nn.Conv2d))
        parent, _, child = path.rpartition(".")
        other = nn.Conv2d(
            in_channels,
            first.out_channels,
            first.kernel_size,  # type: ignore[arg-type]
            first.stride,  # type: ignore[arg-type]
            first.padding,  # type: ignore[arg-type]
            first.dilation,  # type: ignore[arg-type]
            first.groups,
            first.bias is not None,
            first.padding_mode,  # type: ignore[arg-type]
        )
        setattr(model.get_submodule(parent), child, other)
    return model


def _torchvision_names() -> list[str]:
    from torchvision import models

    return cast(list[str], models.list_models(module=models))


def _timm_names(*, required: bool = False) -> list[str]:
    try:
        import timm
    except ImportError:
        if required:
            raise SettingsError("timm is not installed: pip install 'twostroke[timm]'") from None
        return []
    return cast(list[str], timm.list_models())
