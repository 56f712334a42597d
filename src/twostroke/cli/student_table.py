"""The table of `twostroke distill`: teacher and students side by side."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from rich.table import Table
from torch import nn

from .._amounts import size
from ..data import ExampleSource
from ..outcome import Status
from ..training import FitResult, evaluate


def row(
    name: str,
    net: nn.Module,
    images: ExampleSource,
    *,
    tested: bool,
    result: FitResult | None = None,
    file: Path | None = None,
) -> tuple[str, ...]:
    """A network's line, measured on images, with labels where it is to be `tested` on them.

    `result` is of its training; `file` holds it, else its bytes are those of its parameters.
    """
    error = math.nan
    if result is not None:
        error = result.error
        if result.status is Status.DIVERGED:
            name = f"{name} (diverged)"
    elif tested:
        error = evaluate(net, images).error
    parameters = list(net.parameters())
    nbytes = sum(p.numel() * p.element_size() for p in parameters)
    return (
        name,
        "–" if math.isnan(error) else f"{error:.2f}",
        f"{sum(p.numel() for p in parameters):,}",
        size(nbytes if file is None else file.stat().st_size),
        f"{milliseconds(net, images):.3g}",
        "–" if result is None else f"{result.history.seconds:.1f}",
    )


def milliseconds(net: nn.Module, source: ExampleSource, rounds: int = 15) -> float:
    """Of one image in a batch of 32, in evaluation mode: the median of some rounds after three to warm up."""
    x, _ = source.batch(torch.arange(min(32, len(source))), view=0)
    device = next(net.parameters()).device
    x = x.to(device)
    times = []
    net.eval()
    with torch.no_grad():
        for _ in range(3 + rounds):
            start = time.perf_counter()
            net(x)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
    return 1e3 * sorted(times[3:])[rounds // 2] / len(x)


def table(lines: list[tuple[str, ...]], *, tested: bool) -> Table:
    """All networks; `tested` says whether errors are of a test set, or differences from the teacher."""
    error = "error %" if tested else "differs %"
    what = (
        "test error"
        if tested
        else "share of the images on which it says another class than the teacher"
    )
    shown = Table(caption=f"{error}: {what}", caption_justify="left")
    shown.add_column("network")
    for head in (error, "parameters", "bytes", "ms an image", "seconds"):
        shown.add_column(head, justify="right")
    for line in lines:
        shown.add_row(*line)
    return shown
