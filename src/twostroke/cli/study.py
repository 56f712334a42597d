"""`twostroke study`: what a trained network's supports look like, as tables and pictures."""

from __future__ import annotations

from pathlib import Path

import torch
import tyro
from rich.console import Console

from ..errors import RunFolderError, SettingsError, UnholdableError
from .explain import trained
from .progress import RunBars

SHOWN = 6  # images whose neighbours are drawn
LINE_WORK = 80_000_000  # walls of a line × units of the network: about half a minute


def study(
    run: tyro.conf.Positional[Path],
    *,
    data: str | None = None,
    data_root: Path | None = None,
    examples: int = 1000,
    out: Path | None = None,
) -> None:
    """Draw what a trained network's units do on the test set: layers, neighbours, classes, a line.

    Which units are on is recorded for each example, and these bits are compared.

    Args:
        run: Folder that `twostroke train` wrote.
        data: Study these images instead of the run's own, prepared as the run's were; of the same size.
        data_root: Where named data sets lie or are downloaded to; by default the run's.
        examples: How many examples of the test set, from the first.
        out: Folder for the pictures; by default `study` within the run's. It must not be there already.
    """
    from .. import study as room
    from ..data import load
    from ..runs import About, RunFolder
    from ..study import pictures, tables
    from .teachers import as_taught

    if examples < 3:
        raise SettingsError(f"--examples {examples}: at least 3 are needed to speak of neighbours")
    out = out or run / "study"
    if out.exists():
        raise RunFolderError(f"{out} is there already: choose another --out or remove it")
    name, net, own, taken = trained(run, data_root)
    source, shown_of = (taken or own).test, own.test
    if data is not None:
        if taken is not None:
            raise SettingsError(
                f"the run in {run} takes images that are preprocessed as its data set's are: leave --data out"
            )
        source = as_taught(load(data, root=data_root).test, About.read(RunFolder(run).model_file))
        shown_of = source
    chosen = torch.arange(min(examples, len(source)))
    x, y = source.batch(chosen)
    x, y = x.double().cpu(), y.cpu()
    shown = _to_show(shown_of.batch(chosen)[0].cpu())
    console = Console()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), 250)
    with RunBars(console, "recording") as bars:
        support = room.record(net, loader, listener=bars)
    of = f"{name}, {len(x):,} examples of {data or own.name}"
    console.print(tables.layers(support, of).table())
    every = room.unique(support)
    console.print(
        f"{every.count:,} different patterns of all sites in {len(x):,} examples", highlight=False
    )

    found = room.neighbours(support, k=min(8, len(x) - 1))
    classes = source.classes
    table = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    nearest = y[found.indices[:, 0]]
    table.index_put_((y, nearest), torch.ones_like(y), accumulate=True)
    same = float((y == nearest).double().mean())
    console.print(
        f"{100 * same:.1f} % have a nearest neighbour (Hamming distance of all units) of their own class",
        highlight=False,
        soft_wrap=True,
    )
    other = int((y != y[0]).nonzero()[0]) if bool((y != y[0]).any()) else 1
    # a unit that differs between the ends has switched on the way: so many walls at least
    least = max(1, int(room.hamming(support[0], support[other])))
    part = min(1.0, LINE_WORK / sum(site.units for site in support.sites) / least)
    way = "line" if part == 1 else f"first {100 * part:.2g} % of the line"
    try:
        lined = room.line(net, x[0], x[0] + part * (x[other] - x[0]))
        text = f"the {way} from example 0 to {other} crosses {lined.regions:,} regions"
    except UnholdableError as error:
        lined, text = None, f"no line: {error}"
    console.print(text, highlight=False, soft_wrap=True)
    try:
        out.mkdir(parents=True)
        pictures.draw_layers(support, out / "layers.png", title=of)
        some = torch.arange(min(SHOWN, len(x)))
        few = room.Neighbours(found.distances[some], found.indices[some])
        pictures.draw_neighbours(
            shown[some],
            shown,
            few,
            out / "neighbours.png",
            title="nearest patterns, units that differ",
        )
        pictures.draw_confusion(table, classes, out / "classes.png", title=of)
        if lined is not None:
            ends = shown[0], shown[0] + part * (shown[other] - shown[0])
            pictures.draw_line(lined, out / "line.png", ends=ends, title=text)
    except OSError as error:
        raise RunFolderError(f"{out} could not be written: {error}") from error
    console.print(f"pictures: {out}", highlight=False, soft_wrap=True)


def _to_show(x: torch.Tensor) -> torch.Tensor:
    """Images (count, channels, height, width) from 0 to 1, each stretched to its own range."""
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low).clamp_min(1e-12)
