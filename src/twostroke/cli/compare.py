"""`twostroke compare`: curves and a table of finished runs."""

from __future__ import annotations

from pathlib import Path

import tyro
from rich.console import Console


def compare(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    *,
    out: Path = Path("curves.png"),
    targets: tuple[float, ...] = (),
) -> None:
    """Compare runs: a table, and learning curves like the paper's Fig. 1 and 3.

    Args:
        runs: Folders that `twostroke train` wrote.
        out: Where to write the picture; a file that is there already is not replaced.
        targets: Test errors in %; the table then says how many epochs and seconds each run took.
    """
    from ..errors import RunFolderError, SettingsError
    from ..report import comparison, draw_curves
    from ..training import RunFolder

    if not runs:
        raise SettingsError("name at least one run's folder: twostroke compare runs/a runs/b")
    if out.exists():
        raise RunFolderError(f"{out} is there already: choose another --out or remove it")
    names = [run.name for run in runs]
    clash = len(set(names)) < len(names)
    histories = {str(run) if clash else run.name: RunFolder(run).history() for run in runs}
    console = Console()
    console.print(comparison(histories, targets=targets))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draw_curves(histories, out)
    except OSError as error:
        raise RunFolderError(f"{out} could not be written: {error}") from error
    console.print(f"curves: {out}", highlight=False, soft_wrap=True)
