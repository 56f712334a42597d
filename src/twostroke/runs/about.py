"""What the use of a trained model needs beside its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..data import Data, PictureToTensor, Preparation, Whitening
from ..errors import RunFolderError
from ..models.catalog import check_options
from ..models.sizes import Sizes
from .files import read_tensors, save_tensors

WHITENING = "whitening.safetensors"  # its file beside the weights


@dataclass(frozen=True)
class About:
    """A model by its name, and the images that it takes.

    model: name for `create_model`. classes: in the order of its outputs.
    shape: of an image, (channels, height, width).
    mean, std: by channel, of pixels in [0, 1]; None where images are prepared otherwise.
    preprocess: how, as `data.load(preprocess=...)` takes it.
    student: how the model was made from that of the name ("width", "prune", "bits"); often nothing.
    crop, of_bytes, whitening: as in `data.PictureToTensor`. The whitening has a file of its own.
    options: of the model, for `create_model`.
    sizes: of layers that are not as the name builds them, see `models.sizes`.
    """

    model: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    preprocess: str = "none"
    student: tuple[tuple[str, float], ...] = ()
    crop: float = 1.0
    of_bytes: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    sizes: Sizes = field(default_factory=dict)
    whitening: Whitening | None = field(default=None, compare=False)

    @classmethod
    def of(cls, model: str, data: Data, *, preprocess: str = "none") -> About:
        """Of a model that is trained on these data."""
        how = PictureToTensor.of(data, preprocess)
        return cls(
            model,
            tuple(data.classes),
            how.shape,
            None if how.mean is None else tuple(how.mean),
            None if how.std is None else tuple(how.std),
            preprocess,
            crop=how.crop,
            of_bytes=how.of_bytes,
            whitening=how.whitening,
        )

    def to_tensor(self) -> PictureToTensor:
        """How a picture becomes the tensor that the model takes.

        Raises `RunFolderError` where the images were whitened and the file of that is not there.
        """
        if self.preprocess.startswith("gcn-zca") and self.whitening is None:
            raise RunFolderError(
                f"the images of this model were whitened, and {WHITENING} is not beside its weights: put it "
                "there from a copy of the run"
            )
        return PictureToTensor(
            self.shape,
            self.mean,
            self.std,
            self.preprocess,
            self.crop,
            self.of_bytes,
            self.whitening,
        )

    @property
    def prepared(self) -> Preparation:
        """How images in a folder are brought to the form that the model takes, but for `preprocess`."""
        return Preparation(self.shape, self.mean, self.std, self.crop)

    def to_json(self) -> str:
        """Text for a header, without the whitening."""
        values = asdict(replace(self, whitening=None))
        del values["whitening"]
        return json.dumps(values)

    def save_whitening(self, folder: Path) -> None:
        """Write the whitening, where there is one; raises as `save_tensors`."""
        if self.whitening is not None:
            tensors = {"mean": self.whitening.mean, "matrix": self.whitening.matrix}
            save_tensors(folder / WHITENING, tensors, {})

    @classmethod
    def of_header(cls, header: Mapping[str, str], file: Path) -> About:
        """From the header of a file of weights, and the whitening beside it.

        Raises `RunFolderError` where it does not say.
        """
        if "about" not in header:
            raise RunFolderError(
                f"{file} does not say what its model is; model.safetensors of a finished run does"
            )
        about, whitening = cls.from_json(header["about"], file), file.parent / WHITENING
        if about.preprocess.startswith("gcn-zca") and whitening.exists():
            kept, _ = read_tensors(whitening)
            return replace(about, whitening=Whitening(kept["mean"], kept["matrix"]))
        return about

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
            check_options(values["options"])
            return cls(
                str(values["model"]),
                tuple(str(name) for name in values["classes"]),
                (channels, height, width),
                numbers["mean"],
                numbers["std"],
                str(values["preprocess"]),
                tuple((str(name), float(value)) for name, value in values["student"]),
                float(values["crop"]),
                bool(values["of_bytes"]),
                dict(values["options"]),
                dict(values["sizes"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise RunFolderError(
                f"{path} says nothing sensible of its model ({error}): it is damaged, or of an earlier version"
            ) from error
