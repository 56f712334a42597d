"""`twostroke rip` and `twostroke recover`: §3.3 of the paper, put to the test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from ..errors import RunFolderError, SettingsError

if TYPE_CHECKING:
    from ..reproduction.theory import Findings, Tell


def rip(*, out: Path, seeds: int = 3) -> None:
    """Test the condition of the paper's Theorem 1, eq. 29, on operators made and real.

    Gaussian operators; networks with random weights and Gaussian inputs, whose support is known;
    and a small network on real digits of 7×7 pixels, before and after training. Half a minute.

    Args:
        out: Folder for rip.md, rip.json and spectra.png; must not hold anything yet.
        seeds: Draws of each operator.
    """
    with _folder(out, seeds):
        from ..reproduction.theory import isometry

        _run(lambda tell: isometry(seeds, tell), out, f"twostroke rip --seeds {seeds}")


def recover(
    *, out: Path, scale: Literal["smoke", "full"] = "smoke", seeds: int | None = None
) -> None:
    """Recover weights whose support is given: how many bits it takes, and if it helps.

    Small networks, trained on digits, are rebuilt from their masks on a few images, layer by layer: each
    unit is a half-space, a convex problem. And students are fitted to teachers with the teacher's support
    given and unknown.

    Args:
        out: Folder for recover.md, recover.json, half_spaces.png and students.png; must not hold
            anything yet.
        scale: smoke takes about four minutes, full about half an hour.
        seeds: Teachers of each kind of student, one student each; by default 5 for smoke and 10 for full.
    """
    with _folder(out, seeds):
        from ..reproduction.theory import SCALES, recovery

        count = SCALES[scale].seeds if seeds is None else seeds
        command = f"twostroke recover --scale {scale} --seeds {count}"
        _run(lambda tell: recovery(SCALES[scale], count, tell), out, command)


def _run(experiment: Callable[[Tell], Findings], out: Path, command: str) -> None:
    """Do the work, write its files, print its tables."""
    console, began = Console(markup=False), time.perf_counter()
    with console.status(command) as status:
        found = experiment(
            status.update
            if console.is_terminal
            else lambda text: console.print(text, highlight=False, soft_wrap=True, markup=False)
        )
    files = found.write(out, command, time.perf_counter() - began)
    for sheet in found.sheets:
        console.print(sheet.table())
    console.print("\n".join(found.notes), highlight=False)
    console.print(f"\nin {out}: {', '.join(files)}", highlight=False, soft_wrap=True)


@contextmanager
def _folder(out: Path, seeds: int | None) -> Iterator[None]:
    """Make the folder before any work; take it away again if nothing came of it."""
    if seeds is not None and seeds < 1:
        raise SettingsError(f"--seeds is a number of draws, 1 or more, not {seeds}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunFolderError(f"{out} already holds something: choose another --out or remove it")
    there = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise RunFolderError(f"{out} cannot be written: {error}") from error
    finally:
        if not there:
            with suppress(OSError):  # what is in it stays
                out.rmdir()
