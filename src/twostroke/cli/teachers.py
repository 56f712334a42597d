"""Networks that teach, by name: of a run, of torchvision or timm, or of a file."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data import Augmentation, Examples, ExampleSource, noise, photos
from ..data.decoding import Told
from ..errors import DataError, SettingsError
from ..models.published import published
from ..runs import About, RunFolder
from ..runs.ready import load_with_about
from .weights import SOURCES

NOISE = Path("noise")  # instead of a folder of pictures
_DRAWN = 1000  # so many, where no number is given


@dataclass(frozen=True)
class Teacher:
    """A trained network in evaluation mode, and what its use needs.

    `net` is None where only a guide of it is at hand. `config` is of the run whose data it was
    tested on, where one was.
    """

    net: nn.Module | None
    about: About
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> str | None:
        """The data of that run."""
        return self.config.get("data")


def teacher_of(name: str) -> Teacher:
    """The folder of a run, torchvision:NAME, timm:NAME, or a file that such a folder has.

    Raises `SettingsError`, `RunFolderError` or `WeightsError` where there is no such network.
    """
    source, colon, rest = name.partition(":")
    if colon and source in SOURCES:
        known = published(f"{source}/{rest}")
        if not known.classes:
            raise SettingsError(
                f"--teacher {name} has weights without a classifier, so it gives no outputs to learn "
                "from: take one that was trained on classes"
            )
        net, _ = known.build()
        told = known.shape, known.mean, known.std
        return Teacher(net.eval(), About(known.model, known.classes, *told, crop=known.crop))
    path = Path(name)
    if not path.exists():
        raise SettingsError(
            f"--teacher {name}: there is no such folder or file. Give the folder of a run of `twostroke "
            "train`, torchvision:NAME, timm:NAME, or a model.safetensors of a run"
        )
    run = RunFolder(path)
    config = run.config() if path.is_dir() and run.config_file.exists() else {}
    return Teacher(*load_with_about(path), tested_by(config))


def tested_by(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of the run whose data a run has; those of a student may be its teacher's. Empty for no data."""
    while config.get("data") == "teacher":
        run = RunFolder(config.get("teacher") or "torchvision:")
        config = run.config() if run.config_file.exists() else {}
    return {} if config.get("data") == "none" else config


def as_taught(source: ExampleSource, about: About) -> ExampleSource:
    """A source whose images are prepared as the network takes them.

    They come as loaded with `about.prepared`, `preprocess` left at "none". Raises `DataError` for images of
    another size.
    """
    if source.shape != about.shape:
        raise DataError(
            f"the network takes images of {'×'.join(map(str, about.shape))}, and these are "
            f"{'×'.join(map(str, source.shape))}: take data of that size (pictures of a folder are brought "
            "to it)"
        )
    if about.mean is not None or not isinstance(source, Examples):
        return about.prepared.of(source)
    prepare, channels = about.to_tensor(), about.shape[0]
    other = copy.copy(source)
    other.images = torch.cat([prepare.batch(part) for part in source.images.split(1000)])
    other.mean, other.std = (
        t.to(source.device) for t in (torch.zeros(channels), torch.ones(channels))
    )
    return other


def pictures(
    folder: Path,
    teacher: Teacher,
    count: int | None,
    seed: int,
    augmentation: Augmentation | None,
    told: Told,
) -> ExampleSource:
    """Pictures without labels, prepared as the teacher takes them; `NOISE` is no folder, and draws them."""
    about = teacher.about
    channels, height, width = about.shape
    if folder == NOISE and not folder.exists():
        drawn = noise(count or _DRAWN, about.shape, augmentation=augmentation, seed=seed)
        return as_taught(drawn, about)
    if height != width:
        raise SettingsError(
            f"the teacher takes images of {height}×{width}, and pictures are cut square: take images by --data"
        )
    found = photos(
        folder,
        size=height,
        count=count,
        crop=about.crop,
        channels=channels,
        augmentation=augmentation,
        seed=seed,
        told=told,
    )
    return as_taught(found, about)
