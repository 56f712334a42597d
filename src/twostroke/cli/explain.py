"""`twostroke explain`: which pixels a logit comes from, adding up exactly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from ..errors import RunFolderError, SettingsError

if TYPE_CHECKING:
    from torch import nn

    from ..data import Data

SUFFIXES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")


def explain(
    run: tyro.conf.Positional[Path],
    image: Annotated[Path | None, tyro.conf.Positional] = None,
    *,
    index: int | None = None,
    target: str | None = None,
    data_root: Path | None = None,
    out: Path = Path("explain.png"),
) -> None:
    """Show which pixels a logit comes from: contributions that add up to it exactly.

    With its support held, the network is affine in the image, so that the logit is the sum over
    pixels of slope times value, plus a bias. That is an account of the logit, on the linear
    piece that the image lies on, not of what another image would get. Computed in float64.

    Args:
        run: Folder that `twostroke train` wrote: its model, weights, data and preprocessing.
        image: A file (png, jpg, ...), cut to its centre and brought to the size of the data.
        index: Explain this example of the data's test set, counted from 0, instead of a file.
        target: The class whose logit is explained, by name or number; by default the network's answer.
        data_root: Where named data sets lie or are downloaded to; by default the run's.
        out: Where to write the picture (png, jpg, pdf, svg); a file that is there is not replaced.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise SettingsError(f"--out {out}: a picture's name ends in one of {', '.join(SUFFIXES)}")
    if out.exists():
        raise RunFolderError(f"{out} is there already: choose another --out or remove it")
    if (image is None) == (index is None):
        raise SettingsError(
            "explain takes an image file or --index: twostroke explain RUN photo.png, or "
            "twostroke explain RUN --index 0"
        )
    from ..report.explanation import explanation
    from ..report.subject import from_example, from_file

    name, net, data, taken = trained(run, data_root)
    if index is not None:
        subject = from_example(data, index, taken)
    else:
        assert image is not None
        if taken is not None:
            raise SettingsError(
                f"the run in {run} takes images that are preprocessed as its data set's are, and a file "
                "is not: explain an example of the data, --index 0"
            )
        subject = from_file(image, data)
    found = explanation(net, subject, data.classes, target)
    console = Console()
    console.print(found.sheet(name).table())
    console.print(found.ranked(), highlight=False)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        found.draw(out, name)
    except OSError as error:
        raise RunFolderError(f"{out} could not be written: {error}") from error
    console.print(f"picture: {out}", highlight=False, soft_wrap=True)


def trained(run: Path, root: Path | None) -> tuple[str, nn.Module, Data, Data | None]:
    """A run's model by name and in float64, its data, and these preprocessed where the run does that."""
    from ..data import default_root, preprocess
    from ..models import create_model
    from ..runs import RunFolder
    from .weights import data_of

    folder = RunFolder(run)
    if not run.is_dir():
        raise RunFolderError(f"{run}: this folder does not exist")
    config = folder.config()
    if not {"model", "data"} <= config.keys():
        raise RunFolderError(f"{run} was not written by `twostroke train`")
    data = data_of(folder, Console(), root=root, preprocess="none")
    kind = config.get("preprocess", "none")
    taken = None
    if kind != "none":
        place = root or Path(config.get("data_root") or default_root())
        taken = preprocess(data, kind, cache=place / "preprocessed")
    net = create_model(config["model"], classes=len(data.classes), in_channels=data.train.shape[0])
    folder.load_model(net)
    return config["model"], net.double().eval(), data, taken
