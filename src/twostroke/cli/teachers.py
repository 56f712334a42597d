"""Networks that teach, by name: of a run, of torchvision or timm, or of a file."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..data import Augmentation, Examples, ExampleSource, Pictures, noise, photos
from ..data.pictures import MEAN, STD
from ..errors import DataError, SettingsError
from ..models import create_model
from ..runs import About, RunFolder, load_weights, read_tensors

NOISE = Path("noise")  # instead of a folder of pictures
_DRAWN = 1000  # so many, where no number is given
_PUBLISHED = 224  # pixels that published ImageNet networks take


@dataclass(frozen=True)
class Teacher:
    """A trained network in evaluation mode, and what its use needs.

    `net` is None where only a guide of it is at hand. `data` and `data_root` are of the run that trained it,
    where one did. `crop` is the part of a picture that it looks at.
    """

    net: nn.Module | None
    about: About
    data: str | None = None
    data_root: Path | None = None
    crop: float = 1.0


def teacher_of(name: str) -> Teacher:
    """The folder of a run, torchvision:NAME, timm:NAME, or a file that such a folder has.

    Raises `SettingsError`, `RunFolderError` or `WeightsError` where there is no such network.
    """
    source, colon, rest = name.partition(":")
    if colon and source in ("torchvision", "timm"):
        return _published(source, rest)
    path = Path(name)
    if path.is_dir():
        run = RunFolder(path)
        config = run.config() if run.config_file.exists() else {}
        root = config.get("data_root")
        net, about = _made(run.model_file)
        return Teacher(net, about, config.get("data"), None if root is None else Path(root))
    if path.is_file():
        return Teacher(*_made(path))
    raise SettingsError(
        f"--teacher {name}: there is no such folder or file. Give the folder of a run of `twostroke train`, "
        "torchvision:NAME, timm:NAME, or a model.safetensors of a run"
    )


def _made(file: Path) -> tuple[nn.Module, About]:
    """The network that a file of weights tells of, with these weights."""
    about = About.read(file)
    weights, _ = read_tensors(file, unchecked=True)
    if about.student:
        raise SettingsError(
            f"{file} is a student itself ({', '.join(name for name, _ in about.student)}): load it by "
            "guidance.students.load_student, and record a guide in Python"
        )
    net = create_model(about.model, classes=len(about.classes), in_channels=about.shape[0])
    load_weights(net, weights, file, of=about.model)
    return net.eval(), about


def _published(source: str, name: str) -> Teacher:
    """With published weights, and pictures prepared as they were for these."""
    mean, std, side, crop = tuple(MEAN), tuple(STD), _PUBLISHED, 224 / 256
    if source == "torchvision":
        import torchvision  # it takes long to import

        net = create_model(f"torchvision/{name}", weights="DEFAULT")
        told = torchvision.models.get_model_weights(name).DEFAULT
        prepared, classes = told.transforms(), tuple(told.meta["categories"])
        mean, std = tuple(prepared.mean), tuple(prepared.std)
        side = int(prepared.crop_size[0])
        crop = side / int(prepared.resize_size[0])
    else:
        net = create_model(f"timm/{name}", pretrained=True)
        about = getattr(net, "pretrained_cfg", None) or {}
        mean, std = tuple(about.get("mean", mean)), tuple(about.get("std", std))
        side = int(about.get("input_size", (3, side, side))[-1])
        crop = float(about.get("crop_pct", crop))
        count = int(getattr(net, "num_classes", 0))
        if count < 1:
            raise SettingsError(
                f"--teacher timm:{name} has weights without a classifier, so it gives no outputs to learn "
                "from: take one that was trained on classes"
            )
        classes = tuple(str(k) for k in range(count))
    return Teacher(
        net.eval(),
        About(f"{source}/{name}", classes, (3, side, side), mean, std),
        crop=min(crop, 1.0),
    )


def as_taught(source: ExampleSource, about: About) -> ExampleSource:
    """A source whose images are normalised as the teacher's were; `DataError` for images of another size."""
    if source.shape != about.shape:
        raise DataError(
            f"the teacher takes images of {'×'.join(map(str, about.shape))}, and these are "
            f"{'×'.join(map(str, source.shape))}: --images FOLDER resizes pictures to the teacher's size"
        )
    if about.mean is None or about.std is None:
        return source
    if isinstance(source, Pictures):
        moved = copy.copy(source)
        moved.mean, moved.std = (
            torch.tensor(t, dtype=torch.float32) for t in (about.mean, about.std)
        )
        return moved
    if isinstance(source, Examples):
        return Examples(
            source.images,
            source.labels,
            mean=about.mean,
            std=about.std,
            augmentation=source.augmentation,
            classes=source.classes,
        )
    return source


def pictures(
    folder: Path,
    teacher: Teacher,
    count: int | None,
    seed: int,
    augmentation: Augmentation | None = None,
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
    )
