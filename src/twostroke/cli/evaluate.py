"""`twostroke evaluate`: the errors of a run's model on a test set, class by class."""

from __future__ import annotations

from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ..data import Data
from ..errors import RunFolderError, SettingsError
from ..processes.launch import device_named
from ..report.answers import Answers
from ..report.confusion import confusion_counts, confusion_figure
from ..runs.ready import load_with_about
from .options import check_picture
from .run_data import data_of
from .teachers import as_taught
from .weights import same_classes


def evaluate(
    run: tyro.conf.Positional[Path],
    *,
    data: str | None = None,
    data_root: Path | None = None,
    out: Path | None = None,
    device: str = "auto",
) -> None:
    """Test the model of a run: its error, class by class, and which classes it confuses.

    Args:
        run: Folder of a run, or a file of its weights, such as average.safetensors.
        data: Data set whose test set is taken: a name, folder:PATH or npz:PATH. Left out, the run's own.
        data_root: Where named data sets lie. Left out, where the run had them.
        out: Picture of the confusion matrix. Left out, confusion.png in the run's folder.
        device: cpu, cuda, cuda:1; auto takes the GPU where there is one.
    """
    if out is None:
        out = (run if run.is_dir() else run.parent) / "confusion.png"
    check_picture(out)
    net, about = load_with_about(run)
    found = data_of(run, about, data, data_root)
    classes, place = about.classes, device_named(device)
    answers = Answers.of(net.to(place), as_taught(found.test, about))
    labels = (
        answers.labels
        if same_classes(about.classes, found.classes)
        else _numbers(found, classes)[answers.labels]
    )
    counts = confusion_counts(answers.answers, labels, len(classes))
    console = Console(markup=False)
    console.print(_table(counts, classes))
    error = 100 * (1 - counts.trace() / counts.sum())
    console.print(
        f"{about.model} on {found.name} ({found.note}): error {error:.2f} % of {len(labels):,}",
        highlight=False,
        soft_wrap=True,
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        confusion_figure(counts, classes).savefig(out, dpi=130)
    except OSError as error:
        raise RunFolderError(f"{out} could not be written: {error}") from error
    console.print(f"confusion: {out}", highlight=False, soft_wrap=True)


def _numbers(data: Data, classes: tuple[str, ...]) -> Tensor:
    """The model's number of each class of the data; `SettingsError` where it does not know one."""
    strange = [name for name in data.classes if name not in classes]
    if strange:
        raise SettingsError(
            f"{data.name} has classes that the model does not know: {', '.join(strange[:6])}; it knows "
            f"{', '.join(classes[:12])}{', ...' * (len(classes) > 12)}"
        )
    return torch.tensor([classes.index(name) for name in data.classes])


def _table(counts: Tensor, classes: tuple[str, ...]) -> Table:
    """A line a class that has images."""
    table = Table(caption="taken for: the most frequent wrong answer", caption_justify="left")
    table.add_column("class", overflow="fold")
    table.add_column("images", justify="right")
    table.add_column("error %", justify="right")
    table.add_column("taken for", overflow="fold")
    wrong = counts.clone().fill_diagonal_(0)
    for k, name in enumerate(classes):
        images, missed = int(counts[k].sum()), int(wrong[k].sum())
        if not images:
            continue
        most = int(wrong[k].argmax())
        other = f"{classes[most]} ({int(wrong[k, most]):,})" if missed else ""
        table.add_row(name, f"{images:,}", f"{100 * missed / images:.2f}", other)
    return table
