"""A run's model, ready for use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import RunFolderError, TwostrokeError
from ..models import create_model
from ..models.sizes import Sizes, resize
from .about import About
from .files import read_weights
from .folder import RunFolder, load_weights


def load(path: str | os.PathLike[str]) -> nn.Module:
    """The model of a run, in evaluation mode, on the CPU: a plain module that knows its classes.

    `path` is the folder of a run of `twostroke train`, `dsd` or `distill`, or a file of its weights, such as
    `average.safetensors`. Nothing is unpickled and nothing downloaded. Beside what its class has, the module
    has `classes`, the names of its outputs in their order, and `preprocess`: a function that makes of a
    picture's path, a PIL image or an array the tensor that the training saw (`data.PictureToTensor`).

        model = twostroke.load("runs/a")
        x = model.preprocess("cat.jpg")              # (channels, height, width)
        print(model.classes[model(x[None]).argmax()])

    Raises `RunFolderError` for a path that is not there, holds no finished run or is damaged, and what
    `models.create_model` raises where the model is not known here.
    """
    net, about = load_with_about(Path(path))
    ready: Any = net
    ready.classes, ready.preprocess = about.classes, about.to_tensor()
    return net


def load_with_about(path: Path) -> tuple[nn.Module, About]:
    """The bare model in evaluation mode, and what is known of it; raises as `load`."""
    file = RunFolder(path).model_file if path.is_dir() else path
    if path.is_dir() and not file.exists():
        raise RunFolderError(
            f"{path} has no {file.name}: it is not the folder of a run, or the run has not ended yet"
        )
    weights, header = read_weights(file, unchecked=True)
    about = About.of_header(header, file)
    channels = about.shape[0]
    net = built(
        file, weights, about.model, len(about.classes), channels, about.options, about.sizes
    )
    return net, about


def built(
    file: Path,
    weights: Mapping[str, Any],
    model: str,
    classes: int,
    in_channels: int,
    options: Mapping[str, Any],
    sizes: Sizes,
) -> nn.Module:
    """A model by its name, with sizes and weights from a file, in evaluation mode.

    Raises `RunFolderError` where these do not fit, and what `create_model` raises.
    """
    try:
        net = create_model(model, classes=classes, in_channels=in_channels, **options)
        if sizes:
            resize(net, sizes, weights)
    except TwostrokeError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise RunFolderError(f"{file} does not fit {model} as it is built here: {error}") from error
    load_weights(net, weights, file, of=model)
    return net.eval()
