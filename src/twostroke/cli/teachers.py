"""Networks that teach, by name: of a run, of torchvision or timm, or of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ..data import Augmentation, Examples, ExampleSource, Preparation, noise, photos
from ..data.decoding import Told
from ..errors import DataError, SettingsError
from ..models.published import published
from ..runs import About
from .weights import SOURCES, Weights

NOISE = Path("noise")  # instead of a folder of pictures
_DRAWN = 1000  # so many, where no number is given


@dataclass(frozen=True)
class Teacher:
    """A trained network in evaluation mode, and what its use needs.

    `net` is None where only a guide of it is at hand. `config` is of the run that trained it, where one did.
    `crop` is the part of a picture that it looks at.
    """

    net: nn.Module | None
    about: About
    config: Mapping[str, Any] = field(default_factory=dict)
    crop: float = 1.0

    @property
    def data(self) -> str | None:
        """The data of its run."""
        return self.config.get("data")

    @property
    def prepared(self) -> Preparation:
        """How images are prepared for it."""
        about = self.about
        return Preparation(about.shape, about.mean, about.std, self.crop)


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
        about = About(known.model, known.classes, known.shape, known.mean, known.std)
        return Teacher(net.eval(), about, crop=known.crop)
    if not Path(name).exists():
        raise SettingsError(
            f"--teacher {name}: there is no such folder or file. Give the folder of a run of `twostroke "
            "train`, torchvision:NAME, timm:NAME, or a model.safetensors of a run"
        )
    found = Weights.of(name, "")
    assert found.file is not None
    about = found.about or About.read(found.file)
    net, _ = found.network(about.model, about.classes, about.shape[0])
    return Teacher(net.eval(), about, found.config or {})


def as_taught(source: ExampleSource, about: About) -> ExampleSource:
    """A source whose images are normalised as the teacher's were; `DataError` for images of another size."""
    if source.shape != about.shape:
        raise DataError(
            f"the teacher takes images of {'×'.join(map(str, about.shape))}, and these are "
            f"{'×'.join(map(str, source.shape))}: --images FOLDER resizes pictures to the teacher's size"
        )
    return Preparation(about.shape, about.mean, about.std).of(source)


def pictures(
    folder: Path,
    teacher: Teacher,
    count: int | None,
    seed: int,
    augmentation: Augmentation | None,
    told: Told,
) -> Examples:
    """Pictures without labels, prepared as the teacher takes them; `NOISE` is no folder, and draws them."""
    about = teacher.about
    if folder == NOISE and not folder.exists():
        return noise(
            count or _DRAWN,
            about.shape,
            mean=about.mean,
            std=about.std,
            augmentation=augmentation,
            seed=seed,
        )
    if about.preprocess != "none":
        raise SettingsError(
            f"the teacher's images were prepared by --preprocess {about.preprocess}, which pictures of a "
            "folder are not: take images of its data set (--data)"
        )
    channels, height, width = about.shape
    if height != width:
        raise SettingsError(
            f"the teacher takes images of {height}×{width}, and pictures are cut square: take images by --data"
        )
    return photos(
        folder,
        size=height,
        count=count,
        crop=teacher.crop,
        channels=channels,
        mean=about.mean,
        std=about.std,
        augmentation=augmentation,
        seed=seed,
        told=told,
    )
