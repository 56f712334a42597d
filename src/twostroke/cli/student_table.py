"""The table of `twostroke distill`: teacher and students side by side."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table
from torch import nn

from .._amounts import size
from ..data import ExampleSource
from ..outcome import Status
from ..training import FitResult, evaluate


@dataclass(frozen=True)
class Line:
    """One network: errors in %, bytes of its file or its weights, time of one image."""

    name: str
    error: float
    parameters: int
    nbytes: int
    milliseconds: float
    seconds: float | None

    @classmethod
    def of(
        cls,
        name: str,
        net: nn.Module,
        images: ExampleSource,
        *,
        tested: bool,
        result: FitResult | None = None,
        file: Path | None = None,
    ) -> Line:
        """Measure a network on images, with labels where it is to be `tested` on them."""
        error = math.nan
        if result is not None:
            error = result.error
            if result.status is Status.DIVERGED:
                name = f"{name} (diverged)"
        elif tested:
            error = evaluate(net, images).error
        parameters = list(net.parameters())
        nbytes = sum(p.numel() * p.element_size() for p in parameters)
        return cls(
            name,
            error,
            sum(p.numel() for p in parameters),
            nbytes if file is None else file.stat().st_size,
            milliseconds(net, images),
            None if result is None else result.history.seconds,
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


def table(lines: list[Line], *, tested: bool) -> Table:
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
        shown.add_row(
            line.name,
            "–" if math.isnan(line.error) else f"{line.error:.2f}",
            f"{line.parameters:,}",
            size(line.nbytes),
            f"{line.milliseconds:.3g}",
            "–" if line.seconds is None else f"{line.seconds:.1f}",
        )
    return shown
