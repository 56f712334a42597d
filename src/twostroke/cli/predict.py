"""`twostroke predict`: what pictures show, by the model of a run."""

from __future__ import annotations

import sys
from csv import writer
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from .._files import replacing
from ..data.picture_files import find_pictures
from ..data.to_tensor import read_batches
from ..errors import DataError, RunFolderError, SettingsError
from ..processes.launch import device_named
from ..runs.ready import load_with_about


def predict(
    run: tyro.conf.Positional[Path],
    pictures: tyro.conf.Positional[tuple[Path, ...]],
    *,
    top: int = 3,
    csv: Path | None = None,
    batch_size: int = 64,
    device: str = "auto",
) -> int:
    """Say what pictures show, by the model of a run: classes with their probabilities.

    A picture that is damaged is named and left out; at the end the exit code is then 2.

    Args:
        run: Folder of a run, or a file of its weights, such as average.safetensors.
        pictures: Picture files, or folders with pictures at any depth.
        top: How many classes are told of each picture, the most probable first.
        csv: Write a CSV file instead of a table.
        batch_size: Pictures that go through the network at once.
        device: cpu, cuda, cuda:1; auto takes the GPU where there is one.
    """
    for name, value in (("top", top), ("batch-size", batch_size)):
        if value < 1:
            raise SettingsError(f"--{name} is 1 or more, not {value}")
    files = _files(pictures)
    (net, about), place = load_with_about(run), device_named(device)
    net.to(place)
    to_tensor = about.to_tensor()
    top = min(top, len(about.classes))
    rows: list[list[str | float]] = []
    bad: list[DataError] = []
    batches = read_batches(to_tensor, files, batch_size)
    quiet = not sys.stderr.isatty()
    bar = Console(stderr=True, markup=False)
    count = -(-len(files) // batch_size)
    with torch.inference_mode():
        for good, pixels, faults in track(
            batches, "batches", count, console=bar, disable=quiet, transient=True
        ):
            bad += faults
            if not good:
                continue
            scores = net(to_tensor.batch(pixels.to(place))).float().softmax(1)
            if not bool(scores.isfinite().all()):
                raise RunFolderError(
                    f"the model in {run} gives no finite numbers: did its run diverge?"
                )
            shares, numbers = (found.tolist() for found in scores.topk(top))
            for file, some, which in zip(good, shares, numbers, strict=True):
                row: list[str | float] = [str(file)]
                for k, share in zip(which, some, strict=True):
                    row += [about.classes[k], share]
                rows.append(row)
    if csv is None:
        Console(markup=False).print(_table(rows, top))
    else:
        _write(csv, rows, top)
    for fault in bad:
        print(f"twostroke: left out: {fault}", file=sys.stderr)
    return 2 if bad else 0


def _files(pictures: tuple[Path, ...]) -> list[Path]:
    """All pictures that are meant; `DataError` for a path that is not there or holds none."""
    if not pictures:
        raise SettingsError("name a picture or a folder: twostroke predict runs/a cat.jpg photos/")
    files: list[Path] = []
    for path in pictures:
        if path.is_dir():
            files += find_pictures(path)
        elif path.exists():
            files.append(path)
        else:
            raise DataError(f"{path}: there is no such file or folder")
    return files


def _table(rows: list[list[str | float]], top: int) -> Table:
    table = Table()
    table.add_column("picture", overflow="fold")
    for k in range(top):
        table.add_column("class" if k == 0 else f"class {k + 1}", overflow="fold")
        table.add_column("%", justify="right")
    for row in rows:
        table.add_row(*(f"{100 * v:.1f}" if isinstance(v, float) else v for v in row))
    return table


def _write(path: Path, rows: list[list[str | float]], top: int) -> None:
    names = [
        f"{name}_{k + 1}" if k else name for k in range(top) for name in ("class", "probability")
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("w", newline="") as file:
            lines = writer(file)
            lines.writerow(["picture", *names])
            lines.writerows(rows)
    except OSError as error:
        raise RunFolderError(f"{path} could not be written: {error}") from error
    print(f"{len(rows):,} pictures: {path}")
