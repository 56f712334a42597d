"""What the use of a trained model needs beside its weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data import Data
from ..errors import RunFolderError
from .files import read_tensors


@dataclass(frozen=True)
class About:
    """A model by its name, and the images that it takes.

    model: name for `create_model`. classes: in the order of its outputs.
    shape: of an image, (channels, height, width).
    mean, std: by channel, of pixels in [0, 1]; None where images are prepared otherwise.
    preprocess: how, as `data.load(preprocess=...)` takes it.
    student: how the model was made from that of the name ("width", "prune", "bits"); often nothing.
    """

    model: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    preprocess: str = "none"
    student: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, model: str, data: Data, *, preprocess: str = "none") -> About:
        """Of a model that is trained on these data."""
        told: dict[str, tuple[float, ...] | None] = {}
        for name in ("mean", "std"):
            found = getattr(data.train, name, None)
            plain = preprocess == "none" and isinstance(found, Tensor)
            told[name] = tuple(found.tolist()) if plain and found is not None else None
        return cls(
            model,
            tuple(data.classes),
            data.train.shape,
            told["mean"],
            told["std"],
            preprocess,
        )

    def to_json(self) -> str:
        """Text for a header."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, file: Path) -> About:
        """From a file of weights; `RunFolderError` where it does not say."""
        _, header = read_tensors(file, unchecked=True)
        if "about" not in header:
            raise RunFolderError(
                f"{file} does not say what its model is; model.safetensors of a finished run does"
            )
        return cls.from_json(header["about"], file)

    @classmethod
    def from_json(cls, text: str, path: Path) -> About:
        """Undo `to_json`; `RunFolderError` names the file for anything else."""
        try:
            values: dict[str, Any] = json.loads(text)
            channels, height, width = (int(n) for n in values["shape"])
            numbers = {
                name: None if values[name] is None else tuple(float(n) for n in values[name])
                for name in ("mean", "std")
            }
            return cls(
                str(values["model"]),
                tuple(str(name) for name in values["classes"]),
                (channels, height, width),
                numbers["mean"],
                numbers["std"],
                str(values["preprocess"]),
                tuple((str(name), float(value)) for name, value in values["student"]),
            )
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise RunFolderError(
                f"{path} says nothing sensible of its model ({error}): it is damaged"
            ) from error
