"""What a student is taught with: a teacher, images as it takes them, a test set, or a guide of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import tyro
from rich.console import Console

from ..data import Data, ExampleSource, ResizedCrop, draw_some
from ..data.augmentation import named_augmentation
from ..data.bundle import Divisible
from ..errors import SettingsError
from ..guidance import Guide
from ..processes.launch import device_named
from ..runs import About, RunFolder
from .options import DataOptions, from_toml
from .progress import reading
from .teachers import Teacher, as_taught, pictures, teacher_of
from .weights import same_classes


@dataclass(frozen=True, kw_only=True)
class LessonOptions(DataOptions):
    """Who teaches, and with which images."""

    PATHS: ClassVar = ("teacher", "images", "guide")

    image_size: tyro.conf.Suppress[int | None] = None
    preprocess: tyro.conf.Suppress[str] = "none"
    teacher: str = ""
    """Folder of a run of `twostroke train`, torchvision:NAME, timm:NAME, or a model.safetensors of a run."""
    images: Path | None = None
    """Folder with pictures of any size and depth, without labels; noise draws smooth random ones, for where
    you have none. Left out, training images of --data."""
    data: str = "teacher"
    """Data set with the images and the test set; teacher is that of the teacher's run, none is no test set."""
    examples: int | None = None
    """How many images the teacher looks at, drawn by --seed; left out, all."""
    views: int = 1
    """How often the teacher looks at each image, as --augmentation draws it; 1 is the image as it is."""
    places: int | None = None
    """Keep the masks of so many places of each picture, instead of all; 16 did as well on pictures of 32×32."""
    guide: Path | None = None
    """A file that `twostroke guide` wrote, instead of a teacher; its images are drawn as they were then."""
    labels: bool = False
    """Also learn from the labels of the data set."""

    def check(self) -> None:
        """Raise `SettingsError` for what cannot be, before any work."""
        if not self.teacher and self.guide is None:
            raise SettingsError(
                "say who teaches: --teacher runs/NAME, torchvision:NAME or timm:NAME, or --guide FILE"
            )
        if self.examples is not None and self.examples < 2:
            raise SettingsError(f"--examples is a number of images, 2 or more, not {self.examples}")
        if self.places is not None and self.places < 1:
            raise SettingsError(f"--places is 1 or more, not {self.places}")
        if self.data in ("teacher", "none") and (self.split is not None or self.split_seed):
            raise SettingsError("--split is of --data folder:PATH: give that, or leave --split out")
        if self.views < 1 or (self.views > 1) != (self.augmentation != "none"):
            raise SettingsError(
                "--augmentation draws the views that the teacher looks at: give it with --views 2 or more, "
                "or neither"
            )
        if self.labels and self.images is not None:
            raise SettingsError("pictures of --images have no labels: leave --labels out")


@dataclass(frozen=True)
class Prepared:
    """All that a student needs; `test` is None where there is nothing to test on."""

    teacher: Teacher
    images: ExampleSource
    test: ExampleSource | None
    guide: Guide | None


def prepared(
    what: LessonOptions, console: Console, *, seed: int = 0, device: str = "auto"
) -> Prepared:
    """Find the teacher, on its device, and read the images, drawn by the seed.

    A guide knows how its images were drawn, and what its teacher was: both are taken from it. Raises
    `SettingsError`, `DataError`, `RunFolderError` or `SupportFileError` for what cannot be.
    """
    guide = None if what.guide is None else Guide.load(what.guide)
    teacher = _teacher(what, guide)
    if guide is not None and teacher.net is not None:
        guide.check_teacher(teacher.net)
    count = what.examples
    if guide is not None and "examples" in guide.notes:
        count = int(guide.notes["examples"]) or None
        seed = int(guide.notes["seed"])
        what = replace(what, augmentation=guide.notes["augmentation"])
    if teacher.net is not None:
        teacher.net.to(device_named(device))
    data = _data(what, teacher, console)
    test = None
    if data is not None and same_classes(teacher.about.classes, data.classes):
        test = as_taught(data.test, teacher.about)
    if what.labels and test is None:
        raise SettingsError(
            "labels are learned where the images have the classes that the teacher knows: leave --labels out"
        )
    if what.images is not None:
        draws = None if what.augmentation == "none" else named_augmentation(what.augmentation)
        if isinstance(draws, ResizedCrop):
            raise SettingsError(
                "pictures of --images are cut when they are read: use --augmentation flip-shift or shift"
            )
        with reading(console) as told:
            images = pictures(what.images, teacher, count, seed, draws, told)
        return Prepared(teacher, images, test, guide)
    if data is None:
        raise SettingsError(
            "there are no images: give --images FOLDER, or --data with the name of a data set"
        )
    source = as_taught(data.train, teacher.about)
    if count is not None and count < len(source):
        if not isinstance(source, Divisible):
            raise SettingsError(f"{data.name} gives no part of its images: leave --examples out")
        source = source.subset(draw_some(count, len(source), seed=seed).sort().values)
    return Prepared(teacher, source, test, guide)


def _teacher(what: LessonOptions, guide: Guide | None) -> Teacher:
    if what.teacher:
        return teacher_of(what.teacher)
    assert guide is not None  # `check` has seen to one of them
    if "about" not in guide.notes:
        raise SettingsError(
            f"{what.guide} does not say what its teacher is: give --teacher too, or write it by "
            "`twostroke guide`"
        )
    assert what.guide is not None
    return Teacher(None, About.from_json(guide.notes["about"], what.guide))


def _data(what: LessonOptions, teacher: Teacher, console: Console) -> Data | None:
    own = None if teacher.run is None or what.data == "none" else options_of(teacher.run)
    named = own if what.data in ("teacher", "none") else what
    if named is None:
        return None
    root = what.data_root or (None if own is None else own.data_root)
    # `as_taught` prepares them, with the statistics that the teacher was trained with
    given = replace(named, data_root=root, preprocess="none", augmentation=what.augmentation)
    return given.load(console, teacher.about.prepared)


def options_of(run: RunFolder) -> DataOptions | None:
    """Options of the data that a run was trained and tested on; of a student's run perhaps its teacher's.

    None where it had none.
    """
    from .main import COMMANDS

    config = run.config()
    command = COMMANDS.get(config.get("command", "train"))
    if command is None or command.config is None or "data" not in config:
        return None
    what: DataOptions = from_toml(run.config_file, command.options())
    if isinstance(what, LessonOptions) and what.data == "teacher":
        teacher = RunFolder(what.teacher)
        return options_of(teacher) if what.teacher and teacher.config_file.exists() else None
    return None if what.data == "none" else what
