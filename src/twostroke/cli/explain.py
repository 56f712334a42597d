"""`twostroke explain`: which pixels a logit comes from, adding up exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from ..errors import DataError, RunFolderError, SettingsError
from .options import check_picture


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
        run: Folder of a run, or a file of its weights, such as average.safetensors.
        image: A file (png, jpg, ...), cut to its middle and brought to the size that the network takes.
        index: Explain this example of the data's test set, counted from 0, instead of a file.
        target: The class whose logit is explained, by name or number; by default the network's answer.
        data_root: Where named data sets lie or are downloaded to; by default the run's.
        out: Where to write the picture (png, jpg, pdf, svg); a file that is there is not replaced.
    """
    check_picture(out)
    if out.exists():
        raise RunFolderError(f"{out} is there already: choose another --out or remove it")
    if (image is None) == (index is None):
        raise SettingsError(
            "explain takes an image file or --index: twostroke explain RUN photo.png, or "
            "twostroke explain RUN --index 0"
        )
    from ..report.explanation import explanation
    from ..report.subject import from_example, from_file
    from ..runs.ready import load_with_about
    from .run_data import data_of
    from .teachers import as_taught

    net, about = load_with_about(run)
    if index is not None:
        data = data_of(run, about, data_root=data_root)
        subject = from_example(data, index, as_taught(data.test, about))
    else:
        assert image is not None
        if not image.is_file():
            raise DataError(f"{image}: this file does not exist")
        subject = from_file(image, about.to_tensor())
    found = explanation(net.double(), subject, about.classes, target)
    console = Console(markup=False)
    console.print(found.sheet(about.model).table())
    console.print(found.ranked(), highlight=False)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        found.draw(out, about.model)
    except OSError as error:
        raise RunFolderError(f"{out} could not be written: {error}") from error
    console.print(f"picture: {out}", highlight=False, soft_wrap=True)
