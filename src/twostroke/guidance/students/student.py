"""The file of a student, which says how to build the network and holds its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from ..._generators import generators_kept
from ...errors import RunFolderError, TwostrokeError
from ...models import create_model
from ...models.catalog import check_options
from ...models.sizes import Sizes, sizes
from ...runs.ready import built
from .bits import finish
from .packed import read, write

_HEADER = "twostroke-student"


@dataclass(frozen=True, kw_only=True)
class Student:
    """How a student is built: a model by the name, number of classes and options that `create_model` takes.

    `width`, `prune` and `bits` say what was done to it. They are kept for those who read the file: a file has
    the sizes of all layers, so that torch-pruning is not needed to load it. `options` are what JSON can hold.
    """

    model: str
    classes: int
    in_channels: int
    options: Mapping[str, Any] = field(default_factory=dict)
    width: float = 1.0
    prune: float = 0.0
    bits: int | None = None

    def build(self) -> nn.Module:
        """The model as its name builds it, of full width; raises what `create_model` raises."""
        return create_model(
            self.model, classes=self.classes, in_channels=self.in_channels, **self.options
        )

    @generators_kept()  # build() draws weights, to look at their sizes
    def save(self, path: str | PathLike[str], model: nn.Module) -> None:
        """Write `model`, which `narrow`, `prune` or `quantise` made from `build()`; few bits are packed.

        Raises `SettingsError` for a model that is not made from it, and `RunFolderError` where the file
        cannot be written.
        """
        about = {"recipe": asdict(self), "sizes": sizes(finish(model), self.build())}
        write(Path(path), model, {_HEADER: json.dumps(about)})

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Student:
        """The recipe of a file; raises `RunFolderError` as `load_student` does."""
        _, metadata = read(Path(path))
        return _parse(Path(path), metadata)[0]


@generators_kept()
def load_student(path: str | PathLike[str]) -> nn.Module:
    """The network of a student's file, in evaluation mode: a plain module that needs this package no more.

    Raises `RunFolderError` for a file that is not there, damaged or something else, and what `create_model`
    raises for a model that is not known here.
    """
    path = Path(path)
    weights, metadata = read(path)
    student, found = _parse(path, metadata)
    how = student.classes, student.in_channels, student.options
    return built(path, weights, student.model, *how, found)


def _parse(path: Path, metadata: Mapping[str, str]) -> tuple[Student, Sizes]:
    if _HEADER not in metadata:
        raise RunFolderError(f"{path} is not a student's file: Student.save did not write it")
    try:
        about = json.loads(metadata[_HEADER])
        return _checked(Student(**about["recipe"])), dict(about["sizes"])
    except TwostrokeError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise RunFolderError(f"{path}: its header makes no sense: {error}") from error


def _checked(student: Student) -> Student:
    """Raise `ValueError` for a recipe that may do more than build a model of some sizes."""
    if not isinstance(student.model, str) or any(
        type(n) is not int or n < 1 for n in (student.classes, student.in_channels)
    ):
        raise ValueError("model, classes or in_channels are of another kind")
    check_options(student.options)
    return student
