"""Models that other packages define: torchvision's classification models, and timm's if installed.

Both are imported when first asked for, since their import takes seconds. Nothing is downloaded
unless the caller asks for published weights.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast
from urllib.parse import urlparse

import torch
from torch import nn

from ..errors import SettingsError, WeightsError

_UNREADABLE = (RuntimeError, ValueError, EOFError, UnpicklingError)
TIMM_MISSING = "timm is not installed: pip install 'twostroke[timm]'"


@dataclass(frozen=True)
class Source:
    """A package that models come from.

    `names()` lists its models, none if it is not installed; `knows(name)` also accepts names that
    are not listed (timm's with a tag); `build(name, classes=, in_channels=, weights=, **options)`
    makes the model, where None stands for 10 classes (or as many as the weights have) and 3
    channels.
    """

    names: Callable[[], list[str]]
    knows: Callable[[str], bool]
    build: Callable[..., nn.Module]


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classification models."""
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


def torchvision_model(
    name: str,
    *,
    classes: int | None = None,
    in_channels: int | None = None,
    weights: str | None = None,
    **options: Any,
) -> nn.Module:
    """Build torchvision's model `name`: (batch, in_channels, height, width) to (batch, classes).

    `weights` names published weights, such as "DEFAULT"; they are downloaded if they are not in
    torch's cache. If they were trained for another number of classes, or on another number of
    channels, the last or the first layer gets new random weights. Googlenet and Inception are built
    without their auxiliary outputs, so that they return one tensor, unless `options` ask for them.

    Raises `SettingsError` if the model has no weights of that name, or `options` make it one that they
    do not fit, and `WeightsError` if they could not be downloaded, or the file in torch's cache is damaged.
    """
    import torchvision

    if name in ("googlenet", "inception_v3"):
        options.setdefault("aux_logits", False)
        if weights is None:
            options.setdefault("init_weights", True)  # left open, torchvision warns
        elif name == "googlenet" and not options["aux_logits"]:
            del options["aux_logits"]  # with weights, torchvision refuses it but acts on it
    model: nn.Module
    if weights is None:
        model = torchvision.models.get_model(name, num_classes=classes or 10, **options)
    else:
        entry = _published(name, weights)
        try:
            model = torchvision.models.get_model(name, weights=entry, **options)
        except (OSError, HTTPException) as error:
            raise _unavailable(name, entry.url, error) from error
        except _UNREADABLE as error:
            try:
                entry.get_state_dict(check_hash=True)
            except _UNREADABLE as fault:
                raise _unavailable(name, entry.url, fault) from fault
            # the weights are there and whole, so it is the options
            raise SettingsError(
                f"{name} with {_told(options)} does not fit its weights {weights} ({_line(error)}): leave "
                "out one or the other"
            ) from error
    if weights is not None and classes is not None:
        _change_classes(model, classes)
    if in_channels is not None:
        _change_channels(model, in_channels)
    return model


def built_with(model: nn.Module) -> dict[str, bool]:
    """Options of `create_model` that a model was built with by itself: torchvision's GoogLeNet and Inception
    prepare images once more where they have published weights.
    """
    return {"transform_input": True} if getattr(model, "transform_input", False) else {}


def _published(name: str, weights: str) -> Any:
    """The entry of torchvision's table for published weights: their address and what is known of them."""
    import torchvision

    entries = torchvision.models.get_model_weights(name)
    wanted = weights.rpartition(".")[2]
    if wanted not in entries.__members__:
        known = ", ".join(entry.name for entry in entries)
        raise SettingsError(f"{name} has no weights {weights!r}, only {known}")
    return entries[wanted]


def _unavailable(name: str, url: str, error: Exception) -> WeightsError:
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if file.exists():
        return WeightsError(
            f"{file} does not hold the weights of {name} ({_line(error)}): remove it, and it is "
            f"downloaded again from {url}"
        )
    return WeightsError(
        f"the weights of {name} could not be downloaded ({_line(error)}): fetch {url} where there is "
        f"a network and put it at {file}"
    )


def _told(options: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in options.items()) or "no options"


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def timm_installed() -> bool:
    """Tell whether timm can be imported, without importing it."""
    return importlib.util.find_spec("timm") is not None


def timm_names() -> list[str]:
    """Return the names of timm's models; none if timm is not installed."""
    if not timm_installed():
        return []
    import timm

    return list(timm.list_models())


def timm_knows(name: str) -> bool:
    """Tell whether timm has the model `name`, which may carry a tag (`resnet18.a1_in1k`)."""
    if not timm_installed():
        return False
    import timm

    return bool(timm.is_model(name))


def timm_model(
    name: str,
    *,
    classes: int | None = None,
    in_channels: int | None = None,
    weights: str | None = None,
    **options: Any,
) -> nn.Module:
    """Build timm's model `name`: (batch, in_channels, height, width) to (batch, classes).

    `options` go to `timm.create_model`; `pretrained=True` is the one that downloads. Raises
    `SettingsError` if `weights` is given, which is torchvision's way of naming them, and `WeightsError` if
    weights could not be fetched.
    """
    if weights is not None:
        raise SettingsError("timm names weights by a tag of the model: pretrained=True, no weights")
    import timm

    if classes is not None or not options.get("pretrained"):
        options["num_classes"] = classes or 10
    try:
        model: nn.Module = timm.create_model(name, in_chans=in_channels or 3, **options)
    except Exception as error:  # its downloads fail in many ways
        if not options.get("pretrained"):
            raise
        raise WeightsError(
            f"the weights of {name} could not be fetched from timm ({_line(error)}): fetch them where there is "
            "a network, by timm.create_model(..., pretrained=True), and copy its cache"
        ) from error
    return model


SOURCES = {
    "torchvision": Source(
        torchvision_names, lambda name: name in torchvision_names(), torchvision_model
    ),
    "timm": Source(timm_names, timm_knows, timm_model),
}


def ends(model: nn.Module) -> tuple[str, str]:
    """Paths of the first convolution, and of the last layer, which says how many classes there are."""
    layers = [(p, m) for p, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    told = getattr(model, "get_classifier", None)  # timm's
    last = next((p for p, m in layers if told is not None and m is told()), layers[-1][0])
    return next((p for p, m in layers if isinstance(m, nn.Conv2d)), layers[0][0]), last


def _change_channels(model: nn.Module, in_channels: int) -> None:
    """Replace the first convolution of `model` by one like it for `in_channels`, if it differs.

    Its weights are drawn so that its output has the variance that the old ones would have given.
    """
    path = ends(model)[0]
    old = cast(nn.Conv2d, model.get_submodule(path))
    if old.in_channels == in_channels:
        return
    new = _like(old, in_channels, old.out_channels)
    with torch.no_grad():
        new.weight.normal_().mul_(old.weight.std() * (old.in_channels / in_channels) ** 0.5)
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    _replace(model, path, new)
    if hasattr(model, "transform_input"):  # Googlenet's and Inception's, for red, green and blue
        model.transform_input = False  # type: ignore[assignment]


def _change_classes(model: nn.Module, classes: int) -> None:
    """Replace the last layer of `model`, SqueezeNet's convolution or a linear layer, likewise."""
    path = ends(model)[1]
    old = cast(nn.Linear | nn.Conv2d, model.get_submodule(path))
    if isinstance(old, nn.Conv2d):
        if old.out_channels != classes:
            _replace(model, path, _like(old, old.in_channels, classes))
    elif old.out_features != classes:
        _replace(model, path, nn.Linear(old.in_features, classes, bias=old.bias is not None))


def _like(old: nn.Conv2d, in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size=cast(tuple[int, int], old.kernel_size),
        stride=cast(tuple[int, int], old.stride),
        padding=cast(tuple[int, int], old.padding),
        dilation=cast(tuple[int, int], old.dilation),
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
        device=old.weight.device,
        dtype=old.weight.dtype,
    )


def _replace(model: nn.Module, path: str, new: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, new)
