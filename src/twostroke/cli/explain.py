"""`twostroke explain`: which pixels a logit comes from, adding up exactly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from ..errors import DataError, RunFolderError, SettingsError

if TYPE_CHECKING:
    from torch import Tensor

    from ..data import Data

SUFFIXES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")


@dataclass(frozen=True)
class Subject:
    """An image as it is shown, (channels, height, width) in 0..1, and as the network takes it."""

    name: str
    shown: Tensor
    x: Tensor  # (channels, height, width), normalised
    zero: str  # the pixel that the network takes for 0
    truth: str | None = None


def explain(
    what: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL] [IMAGE]")
    ] = (),
    *,
    run: Path | None = None,
    data: str | None = None,
    data_root: Path | None = None,
    index: int | None = None,
    target: str | None = None,
    image: int | None = None,
    out: Path = Path("explain.png"),
) -> None:
    """Show which pixels a logit comes from: contributions that add up to it exactly.

    With its support held, the network is affine in the image, so that the logit is the sum over
    pixels of slope times value, plus a bias. That is an account of the logit, on the linear
    piece that the image lies on, not of what another image would get. Computed in float64.

    Args:
        what: A model's name and an image file (png, jpg, ...). With --run leave MODEL out; with
            --index leave IMAGE out. `twostroke explain photo.png --run runs/a` is the usual form.
        run: Folder of a run: its model, its weights, and its data's size and normalisation.
        data: Data set to take examples, classes and normalisation from; by default the run's.
        data_root: Where named data sets lie or are downloaded to; by default the run's.
        index: Explain this example of the data's test set, counted from 0, in place of a file.
        target: The class whose logit is explained, by name or number; by default the network's answer.
        image: Height and width that the file is brought to, covering the square and cut to its
            centre; by default those of the data, or the file's own.
        out: Where to write the picture (png, jpg, pdf, svg); a file that is there is not replaced.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise SettingsError(f"--out {out}: a picture's name ends in one of {', '.join(SUFFIXES)}")
    if out.exists():
        raise RunFolderError(f"{out} is there already: choose another --out or remove it")
    model_name, file = split(what, run=run is not None, index=index)
    if image is not None and (image < 1 or file is None):
        raise SettingsError(
            f"--image is a number of pixels, 1 or more, not {image}"
            if image < 1
            else "--image resizes a file, and an example of the data has its size: leave it out"
        )
    if index is not None and run is None and data is None:
        raise SettingsError("--index counts the examples of a data set: add --data NAME or --run")
    model_name, net, source, taken = build(model_name, run, data, data_root)
    if file is not None:
        if taken is not source:
            raise SettingsError(
                f"the run in {run} takes preprocessed images, as its data set's are and a file is not: "
                "explain an example of the data, --index 0"
            )
        subject = read(file, channels_of(model_name, source), image, source)
    else:
        assert source is not None
        assert index is not None
        assert taken is not None
        subject = example(source, index, taken)
    console = Console()
    if run is None:
        console.print(
            f"The weights of {model_name} are random, drawn with seed 0: give --run FOLDER to explain a "
            "trained network.",
            highlight=False,
        )
        model_name += " (random weights)"
    _explain(console, model_name, net, subject, source, target, out)


def split(what: tuple[str, ...], *, run: bool, index: int | None) -> tuple[str | None, Path | None]:
    """Tell model and image file apart: a lone word is the file if a run tells the model."""
    names = "a MODEL, unless --run tells it, and an IMAGE file, unless --index tells it"
    if len(what) > 2 or (len(what) == 2 and index is not None):
        raise SettingsError(f"explain takes {names}, not {' '.join(what)}")
    if len(what) == 2:
        return what[0], Path(what[1])
    if index is not None:
        if not what and not run:
            raise SettingsError("say which model: twostroke explain MODEL, or --run FOLDER")
        return (what[0] if what else None), None
    if not what or not run:
        raise SettingsError(
            f"explain takes {names}: twostroke explain photo.png --run FOLDER, or twostroke explain "
            "--run FOLDER --index 0"
        )
    return None, Path(what[0])


def build(
    name: str | None, run: Path | None, data_name: str | None, root: Path | None
) -> tuple[str, Any, Data | None, Data | None]:
    """The name of the network, itself in evaluation mode and float64, and the data, if any is known:
    as loaded, and as the run's preprocessing leaves them."""
    from ..data import default_root, load
    from ..data import preprocess as preprocessed
    from ..models import create_model
    from ..runs import RunFolder
    from .running import seed_weights

    folder, preprocess = None if run is None else RunFolder(run), "none"
    if folder is not None:
        if not folder.path.is_dir():
            raise RunFolderError(f"{folder.path}: there is no such folder")
        config = folder.config()
        if not {"model", "data"} <= config.keys():
            raise RunFolderError(f"{run} is no folder that `twostroke train` wrote")
        if name not in (None, config["model"]):
            raise SettingsError(
                f"{run} holds a run of {config['model']}, not of {name}: leave the model out"
            )
        preprocess = config.get("preprocess", "none")
        if preprocess != "none" and data_name not in (None, config["data"]):
            raise SettingsError(
                f"the run in {run} takes {config['data']} preprocessed by {preprocess}: leave --data out"
            )
        name, data_name = config["model"], data_name or config["data"]
        root = root or (Path(config["data_root"]) if "data_root" in config else None)
    assert name is not None
    taken = source = None if data_name is None else load(data_name, root=root)
    if source is not None:
        taken = preprocessed(source, preprocess, cache=(root or default_root()) / "preprocessed")
    seed_weights(0)
    net = create_model(
        name,
        classes=None if source is None else len(source.classes),
        in_channels=None if source is None else source.train.shape[0],
    )
    if folder is not None:
        folder.load_model(net)
    return name, net.double().eval(), source, taken


def channels_of(name: str, source: Data | None) -> int:
    """Channels that the network was built for."""
    from ..models import MODELS

    if source is not None:
        return source.train.shape[0]
    return MODELS[name].in_channels if name in MODELS else 3


def read(file: Path, channels: int, side: int | None, source: Data | None) -> Subject:
    """An image file, brought to size and normalised as the data's examples are."""
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    from ..data.picture_files import opened

    if channels not in (1, 3):
        raise SettingsError(
            f"the network takes {channels} channels, and a file has 1 or 3: use --index"
        )
    if not file.is_file():
        raise DataError(f"{file}: there is no such file")
    with opened(file) as image:
        picture = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
    size = None if source is None else source.train.shape[1:]
    height, width = (side, side) if side else size or (picture.height, picture.width)
    if (picture.height, picture.width) != (height, width):
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    shown = torch.from_numpy(np.array(picture)).view(height, width, channels).permute(2, 0, 1) / 255
    mean, std = scale_of(source, channels)
    zero = "a mid-grey pixel" if source is None else "the mean pixel of the training images"
    return Subject(file.name, shown, (shown - mean) / std, zero)


def example(source: Data, index: int, taken: Data) -> Subject:
    """An example of the test set, shown as `source` has it and read as `taken` does."""
    import torch

    if not 0 <= index < len(source.test):
        raise SettingsError(
            f"--index {index}: the test set of {source.name} has the examples 0 to "
            f"{len(source.test) - 1:,}"
        )
    one = torch.tensor([index])
    x, y = source.test.batch(one)
    mean, std = scale_of(source, len(x[0]))
    shown, zero = x[0].cpu() * std + mean, "the mean pixel of the training images"
    if taken is not source:
        x, _ = taken.test.batch(one)
        zero = "a pixel that is 0 after preprocessing"
    truth = source.classes[int(y[0])]
    return Subject(f"{source.name}, test example {index}", shown, x[0].cpu(), zero, truth)


def scale_of(source: Data | None, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the training images, (channels, 1, 1) each; without data, 0..1 to -1..1."""
    import torch

    half = torch.full((channels, 1, 1), 0.5)
    if source is None:
        return half, half
    train: Any = source.train  # every set that has a name keeps them
    return train.mean.cpu()[:, None, None], train.std.cpu()[:, None, None]


def number_of(target: str | None, classes: tuple[str, ...], answer: int) -> int:
    """The class that is meant: by name, else by number, else the network's answer."""
    if target is None:
        return answer
    if target in classes:
        return classes.index(target)
    if target.isdecimal() and int(target) < len(classes):
        return int(target)
    few = ", ".join(classes[:12]) + (", ..." if len(classes) > 12 else "")
    raise SettingsError(
        f"--target {target}: there are {len(classes)} classes, by name or number from 0: {few}"
    )


def _explain(
    console: Console,
    model_name: str,
    net: Any,
    subject: Subject,
    source: Data | None,
    target: str | None,
    out: Path,
) -> None:
    import torch

    from ..report.saliency import draw_contributions
    from ..support import record
    from ..theory import linear_map

    x = subject.x.double()[None]
    try:
        with torch.no_grad():
            logits = net(x)[0]
    except RuntimeError as error:
        raise SettingsError(
            f"{model_name} does not take images of {'×'.join(map(str, x.shape[1:]))}: {error}; "
            "choose another --image"
        ) from error
    held = linear_map(net, record(net, x, pooling=True), x)
    classes = source.classes if source is not None else tuple(map(str, range(len(logits))))
    answer = int(logits.argmax())
    chosen = number_of(target, classes, answer)
    found = held.attribution(chosen)
    parts, bias = found.inputs[0], float(found.bias)
    total, logit = float(parts.sum()), float(logits[chosen])
    table = Table(
        title=f"{model_name} on {subject.name}: logit of class {classes[chosen]}",
        title_justify="left",
    )
    table.add_column("part")
    table.add_column("value", justify="right")
    table.add_row("pixels that add", f"{float(parts.clamp_min(0).sum()):+.6f}")
    table.add_row("pixels that take away", f"{float(parts.clamp_max(0).sum()):+.6f}")
    table.add_row("sum over pixels", f"{total:+.6f}")
    table.add_row("bias part", f"{bias:+.6f}")
    table.add_section()
    table.add_row("sum and bias", f"{total + bias:+.6f}")
    table.add_row("logit of the network", f"{logit:+.6f}")
    table.add_row("gap", f"{abs(total + bias - logit):.1e}")
    console.print(table)
    best = logits.topk(min(3, len(logits)))
    ranked = (
        f"{classes[k]} ({v:.2f})"
        for v, k in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    )
    truth = f"; its label is {subject.truth}" if subject.truth is not None else ""
    console.print(f"highest logits: {', '.join(ranked)}{truth}", highlight=False)
    answered = "" if chosen == answer else f" (the answer is {classes[answer]})"
    label = f", labelled {subject.truth}" if subject.truth is not None else ""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draw_contributions(
            subject.shown,
            parts,
            out,
            title=f"class {classes[chosen]}{answered}: logit "
            + f"{logit:.2f} = {total:.2f} from pixels {bias:+.2f} from biases".replace("-", "−"),
            note=f"{model_name}; {subject.name}{label}; {subject.zero} contributes nothing",
        )
    except OSError as error:
        raise RunFolderError(f"{out} could not be written: {error}") from error
    console.print(f"picture: {out}", highlight=False, soft_wrap=True)
