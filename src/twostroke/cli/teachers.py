"""Networks that teach, by name: of a run, of torchvision or timm, or of a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ..data import Examples, ExampleSource, photos
from ..data.pictures import MEAN, STD
from ..errors import DataError, SettingsError
from ..models import create_model
from ..runs import About, RunFolder, load_weights, read_tensors

_PUBLISHED = 224  # pixels that published ImageNet networks take


@dataclass(frozen=True)
class Teacher:
    """A trained network in evaluation mode, and what its use needs.

    `data` and `data_root` are of the run that trained it, where one did. `crop` is the part of a picture that
    it looks at.
    """

    net: nn.Module
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
    if source == "torchvision":
        net = create_model(f"torchvision/{name}", weights="DEFAULT")
        mean, std, size, crop = MEAN, STD, _PUBLISHED, 224 / 256
    else:
        net = create_model(f"timm/{name}", classes=1000, pretrained=True)
        told = getattr(net, "pretrained_cfg", None) or {}
        mean, std = tuple(told.get("mean", MEAN)), tuple(told.get("std", STD))
        size = int(told.get("input_size", (3, _PUBLISHED, _PUBLISHED))[-1])
        crop = float(told.get("crop_pct", 224 / 256))
    outputs = [m.out_features for m in net.modules() if isinstance(m, nn.Linear)]
    classes = tuple(str(k) for k in range(outputs[-1] if outputs else 1000))
    about = About(f"{source}/{name}", classes, (3, size, size), mean, std)
    return Teacher(net.eval(), about, crop=crop)


def as_taught(source: ExampleSource, about: About) -> ExampleSource:
    """A source whose images are normalised as the teacher's were; `DataError` for images of another size."""
    if source.shape != about.shape:
        raise DataError(
            f"the teacher takes images of {'×'.join(map(str, about.shape))}, and these are "
            f"{'×'.join(map(str, source.shape))}: --images FOLDER resizes pictures to the teacher's size"
        )
    if isinstance(source, Examples) and about.mean is not None and about.std is not None:
        return Examples(
            source.images,
            source.labels,
            mean=about.mean,
            std=about.std,
            augmentation=source.augmentation,
            classes=source.classes,
        )
    return source


def pictures(folder: Path, teacher: Teacher, count: int | None, seed: int) -> Examples:
    """Pictures without labels, prepared as the teacher takes them."""
    about = teacher.about
    if about.preprocess != "none":
        raise SettingsError(
            f"the teacher's images were prepared by --preprocess {about.preprocess}, which goes by its whole "
            "data set; pictures of a folder cannot be: take images of that data set (--data)"
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
        seed=seed,
    )
