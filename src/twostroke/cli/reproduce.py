"""`twostroke reproduce`: the paper's tables and figures by name."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.markdown import Markdown

from .._amounts import duration
from ..errors import SettingsError
from ..reproduction import Cell, Stopped, Watcher
from ..reproduction import reproduce as run
from ..reproduction.render import summary_of
from ..runs import EpochRecord
from ..training import Progress as Where
from .progress import RunBars
from .running import stoppable

Name = Literal[
    "table2", "table3", "table4", "table5", "table6", "table7", "table8", "figure1", "figure3"
]


def reproduce(
    what: Annotated[Name, tyro.conf.Positional],
    *,
    scale: Literal["smoke", "short", "full"] = "smoke",
    seeds: int | None = None,
    device: str = "auto",
    precision: Literal["fp32", "bf16"] = "fp32",
    channels_last: bool = False,
    data: tuple[str, ...] = (),
    data_root: Path | None = None,
    only: tuple[str, ...] = (),
    out: Path = Path("reproduction"),
) -> int:
    """Reproduce a table or a figure of the paper: train its arms, and compare with what it prints.

    Finished runs are kept in OUT/cells and shared by all tables; after a stop the same command goes
    on. Writes Markdown, JSON and curves to OUT, when it is stopped of what is finished. Exit codes: 0
    done, 2 bad input, 130 interrupted.

    Args:
        what: Table or figure.
        scale: full is the published schedule; short a fifth of its epochs; smoke a few epochs on a
            subset, which shows that everything works and nothing else.
        seeds: Runs of each arm, by default 1 (smoke), 3 (short) or 5 (full).
        device: cpu, cuda, cuda:1; auto takes the GPU where there is one.
        precision: bf16 computes in bfloat16 where that is safe.
        channels_last: Memory format of images and weights; faster for most convolutions.
        data: Other data instead of the published ones: NAME for all, or SET=NAME for one, as in
            mnist=mnist-12k or cifar10=npz:cifar10.npz. The tables say so.
        data_root: Where named data sets lie or are downloaded to.
        only: Only tasks whose names begin so, such as mnist or imagenet-resnet18.
        out: Folder for tables, pictures and finished runs.
    """
    console = Console(markup=False)
    bars = _Bars(console)
    try:
        with stoppable():
            done = run(
                what,
                out=out,
                scale=scale,
                seeds=seeds,
                device=device,
                precision=precision,
                channels_last=channels_last,
                data=_stand_ins(data),
                data_root=data_root,
                only=only,
                watcher=bars,
            )
    except Stopped as stop:
        bars.bars.close()
        written = f" and written up in {_page(stop.files)}" if stop.files else ""
        console.print(
            f"Stopped. What was finished is kept in {out / 'cells'}{written}; the same command goes on.",
            highlight=False,
            soft_wrap=True,
        )
        return 130
    except KeyboardInterrupt:
        console.print("Stopped before any training.")
        return 130
    finally:
        bars.bars.close()
    console.print(Markdown(_page(done.files).read_text()))
    for file in done.files:
        console.print(str(file), highlight=False, soft_wrap=True)
    return 0


def _page(files: list[Path]) -> Path:
    return next(file for file in files if file.suffix == ".md")


def _stand_ins(data: tuple[str, ...]) -> dict[str, str] | str | None:
    """NAME, or pairs SET=NAME."""
    if not data:
        return None
    if len(data) == 1 and "=" not in data[0]:
        return data[0]
    pairs = {}
    for entry in data:
        name, equals, other = entry.partition("=")
        if not equals or not other:
            raise SettingsError(
                f"--data takes one NAME for all data sets, or SET=NAME for each; {entry!r} is neither"
            )
        pairs[name] = other
    return pairs


class _Bars(Watcher):
    """A bar a cell, with the number of cells and the time that they will take."""

    def __init__(self, console: Console) -> None:
        self.console, self.bars = console, RunBars(console)
        self.left = self.trained = 0
        self.seconds = self.start = 0.0
        self.label, self.kept = "", False

    def begin(self, number: int, count: int, cell: Cell, kept: bool, left: int) -> None:
        """A cell begins, or is there from before."""
        self.kept, self.left = kept, left
        self.label = f"{number}/{count} {cell.label}"
        self.start = time.monotonic()
        self.bars.part(self.label)

    def part(self, name: str) -> None:
        """A phase of dense-sparse-dense."""
        self.bars.part(f"{self.label} {name}")

    def step(self, where: Where) -> None:
        """After each step."""
        self.bars.step(where)

    def epoch(self, record: EpochRecord) -> None:
        """After each epoch."""
        self.bars.epoch(record)

    def end(self, result: dict[str, Any]) -> None:
        """The cell is done."""
        self.bars.close()
        left = ""
        if not self.kept:
            self.trained += 1
            self.left -= 1
            self.seconds += time.monotonic() - self.start
        if self.trained and self.left:
            left = f", about {duration(round(self.seconds / self.trained * self.left))} left"
        known = "kept from before, " if self.kept else ""
        self.console.print(
            f"{self.label}: {known}{summary_of(result)}{left}", highlight=False, soft_wrap=True
        )
