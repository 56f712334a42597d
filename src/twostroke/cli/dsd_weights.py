"""What a run of `twostroke dsd` begins with: fresh weights, published ones, or those of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ..data import Data
from ..errors import RunFolderError, SettingsError
from ..models import create_model
from ..models.catalog import origin
from ..models.outside import layers_that_do_not_fit
from ..runs import RunFolder

TORCHVISION = "torchvision"
PUBLISHED = "IMAGENET1K_V1"


def fresh_layers(model: str, weights: str | None, data: Data) -> list[str]:
    """Layers that published weights do not fit, so that they are drawn again, in words.

    Raises `SettingsError` for published weights of a model that has none.
    """
    if weights != TORCHVISION:
        return []
    source, name = origin(model)
    if source != TORCHVISION:
        raise SettingsError(
            f"--weights torchvision: {model} is not one of torchvision's models. Give the folder of a run of "
            "`twostroke train` with this model, or leave --weights out and train the dense phase"
        )
    return layers_that_do_not_fit(
        name, PUBLISHED, classes=len(data.classes), in_channels=data.train.shape[0]
    )


def check_origin(weights: str | None, *, data: str, preprocess: str) -> list[str]:
    """What is worth knowing of the run that the weights are of: that it had other data.

    Raises `SettingsError` where that run prepared its images in another way, `RunFolderError` where there
    are no weights.
    """
    if weights not in (None, TORCHVISION) and not RunFolder(weights).model_file.is_file():
        what = "is a file" if Path(weights).is_file() else "has no model.safetensors"
        raise RunFolderError(
            f"--weights {weights} {what}: give the folder of a run of `twostroke train`, or torchvision"
        )
    config = {} if weights in (None, TORCHVISION) else _config(Path(weights))
    theirs = config.get("preprocess", preprocess)
    if theirs != preprocess:
        raise SettingsError(
            f"the run in {weights} prepared its images with --preprocess {theirs}, and this one would with "
            f"--preprocess {preprocess}: give --preprocess {theirs}"
        )
    if config.get("data", data) != data:
        return [
            f"the weights in {weights} were trained on {config['data']}, and this run is on {data}"
        ]
    return []


def network(model: str, weights: str | None, data: Data, *, begun: bool) -> nn.Module:
    """The model with its weights; a run that has `begun` has those of a run's folder already.

    Published weights are put in again: torchvision's models may prepare images as those need it.
    """
    net = create_model(
        model,
        classes=len(data.classes),
        in_channels=data.train.shape[0],
        weights=PUBLISHED if weights == TORCHVISION else None,
    )
    if weights not in (None, TORCHVISION) and not begun:
        RunFolder(weights).load_model(net)
    return net


def _config(folder: Path) -> dict[str, Any]:
    """Options of the run whose weights are in a folder, or in that of one of its phases."""
    if folder.parent.name == "phases":
        folder = folder.parent.parent
    run = RunFolder(folder)
    return run.config() if run.config_file.exists() else {}
