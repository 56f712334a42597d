"""Models by name: this package's own, then torchvision's, then timm's."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from torch import nn

from ..errors import SettingsError, UnknownNameError
from .allcnn import BLOCKS, VARIANTS, AllCNN
from .blocks import require_positive
from .mini import Mini
from .nin import NIN
from .outside import SOURCES, TIMM_MISSING, timm_installed


@dataclass(frozen=True)
class Entry:
    """A model of this package: how it is built, what it is, and what it is built for by default."""

    build: Callable[..., nn.Module]
    description: str
    classes: int = 10
    in_channels: int = 3


_TITLES = {
    "allcnn": "All-CNN",
    "base": "Base",
    "strided": "Strided-CNN",
    "convpool": "ConvPool-CNN",
}

MODELS: dict[str, Entry] = {
    "allcnn-mini": Entry(Mini, "small all-convolutional net with batch norm; seconds on a CPU"),
    **{
        f"{variant}-{size}": Entry(
            partial(AllCNN, size, variant),  # type: ignore[arg-type]
            f"{title}-{size.upper()} (Springenberg et al. 2014): {VARIANTS[variant]}",
        )
        for variant, title in _TITLES.items()
        for size in BLOCKS
    },
    "nin-mnist": Entry(
        partial(NIN, "mnist"), "Network in Network for MNIST (Lin et al. 2013)", in_channels=1
    ),
    "nin-svhn": Entry(partial(NIN, "svhn"), "Network in Network for SVHN (Lin et al. 2013)"),
    "nin-cifar10": Entry(
        partial(NIN, "cifar10"), "Network in Network for CIFAR-10 (Lin et al. 2013)"
    ),
    "nin-cifar100": Entry(
        partial(NIN, "cifar100"), "Network in Network for CIFAR-100 (Lin et al. 2013)", classes=100
    ),
}


def create_model(
    name: str,
    *,
    classes: int | None = None,
    in_channels: int | None = None,
    weights: str | None = None,
    **options: Any,
) -> nn.Module:
    """Build the model `name`: (batch, in_channels, height, width) to logits (batch, classes).

    A name is looked for among this package's models (`MODELS`), then torchvision's, then timm's;
    `torchvision/NAME` and `timm/NAME` name the source. `list_models()` lists all.

    Left out, `classes` and `in_channels` are those that one of our models is published for, else 10
    and 3. torchvision's and timm's words for them, `num_classes` and `in_chans`, mean the same.
    `weights` names published weights of a torchvision model (`classes` left out is then as many as
    they have); without it, nothing is ever downloaded. All other `options` go to the model's builder,
    such as `final_relu=True` to `AllCNN` or `pretrained=True` to timm.

    Raises `SettingsError` if `classes` or `in_channels` is below 1 or given by both words, the model has no
    such weights, or one of our models does not know an option; `UnknownNameError` if no model has this
    name, or it is timm's and timm is not installed; `WeightsError` if torchvision's weights could not be
    downloaded, or their file is damaged.
    """
    sizes = {"classes": classes, "in_channels": in_channels}
    for ours, theirs in (("classes", "num_classes"), ("in_channels", "in_chans")):
        if theirs in options:
            if sizes[ours] is not None:
                raise SettingsError(f"{theirs} means {ours}: give one of them")
            sizes[ours] = options.pop(theirs)
    require_positive(**{size: number for size, number in sizes.items() if number is not None})
    if name in MODELS:
        if weights is not None:
            raise SettingsError(f"{name} has no published weights; leave out weights={weights!r}")
        return _build(name, **sizes, options=options)
    source, bare = _find(name)
    return SOURCES[source].build(bare, **sizes, weights=weights, **options)


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `ValueError` for options from a file that may do more than build a model of some sizes.

    They go to the model's builder, which for timm can download or open other files: a file may give numbers
    and switches only, and none that asks for weights.
    """
    for name, value in options.items():
        asks = any(word in name for word in ("pretrained", "checkpoint", "weights", "url", "cache"))
        if (asks and name != "init_weights") or type(value) not in (bool, int, float):
            raise ValueError(f"the option {name}={value!r:.40} is not allowed")


def origin(name: str) -> tuple[str, str]:
    """Where the model `name` comes from ("twostroke", "torchvision" or "timm"), and its name there.

    Raises `UnknownNameError` as `create_model` does.
    """
    return ("twostroke", name) if name in MODELS else _find(name)


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of our models, then `torchvision/NAME`s, then `timm/NAME`s if installed.

    `pattern` is a shell pattern, case-sensitive, that the name ("timm/*") or what follows its source
    ("res*") must match.
    """
    names = [name for name in MODELS if fnmatchcase(name, pattern)]
    for key, source in SOURCES.items():
        if "/" in pattern and not fnmatchcase(key, pattern.partition("/")[0]):
            continue  # spares the import
        names += [
            f"{key}/{name}"
            for name in source.names()
            if fnmatchcase(f"{key}/{name}", pattern) or fnmatchcase(name, pattern)
        ]
    return names


def _build(
    name: str, classes: int | None, in_channels: int | None, options: dict[str, Any]
) -> nn.Module:
    entry = MODELS[name]
    known = set(inspect.signature(entry.build).parameters) - {"classes", "in_channels"}
    unknown = sorted(options.keys() - known)
    if unknown:
        raise SettingsError(
            f"{name} has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    return entry.build(
        classes=entry.classes if classes is None else classes,
        in_channels=entry.in_channels if in_channels is None else in_channels,
        **options,
    )


def _find(name: str) -> tuple[str, str]:
    """Return the source of `name`, which is not one of ours, and its name there."""
    prefix, slash, bare = name.partition("/")
    if slash and prefix in SOURCES:
        if SOURCES[prefix].knows(bare):
            return prefix, bare
        if prefix == "timm" and not timm_installed():
            raise UnknownNameError(f"no model {name!r} here; {TIMM_MISSING}")
    else:
        for key, source in SOURCES.items():
            if source.knows(name):
                return key, name
    raise UnknownNameError(_unknown(name))


def _unknown(name: str) -> str:
    everything = list_models()
    # a short name is compared with short names, or the prefix would swamp the resemblance
    names = everything if "/" in name else [known.rpartition("/")[2] for known in everything]
    near = difflib.get_close_matches(name.lower(), dict.fromkeys(names), n=3)
    text = f"no model {name!r}"
    text += f"; did you mean {' or '.join(near)}?" if near else "."
    text += " `twostroke models` lists all"
    return text if timm_installed() else f"{text} ({TIMM_MISSING})"
