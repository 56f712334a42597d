"""`twostroke compare`: curves and a table of finished runs."""

from __future__ import annotations

from pathlib import Path

import tyro
from rich.console import Console

from ..errors import RunFolderError, SettingsError
from .options import check_picture


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
        targets: Test errors in %; a second table then says how many epochs, steps and seconds each run took.
    """
    from ..report import comparison, draw_curves, to_targets
    from ..runs import RunFolder

    if not runs:
        raise SettingsError("name at least one run's folder: twostroke compare runs/a runs/b")
    for target in targets:
        if not 0 <= target <= 100:
            raise SettingsError(
                f"targets are errors in %, between 0 and 100, which {target} is not"
            )
    check_picture(out)
    if out.exists():
        raise RunFolderError(f"{out} is there already: choose another --out or remove it")
    folders = {_name(run, runs): RunFolder(run) for run in runs}
    histories = {name: folder.history() for name, folder in folders.items()}
    console = Console(markup=False)
    console.print(comparison(histories))
    if targets:
        console.print(to_targets(histories, targets))
    data = {
        name: folder.config().get("data")
        for name, folder in folders.items()
        if folder.config_file.exists()
    }
    if len(set(data.values()) - {None}) > 1:
        told = ", ".join(f"{name} on {of}" for name, of in data.items() if of is not None)
        console.print(
            f"These runs are on different data, and their errors do not compare: {told}.",
            highlight=False,
            soft_wrap=True,
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draw_curves(histories, out)
    except OSError as error:
        raise RunFolderError(f"{out} could not be written: {error}") from error
    console.print(f"curves: {out}", highlight=False, soft_wrap=True)


def _name(run: Path, runs: tuple[Path, ...]) -> str:
    """The folder's name, or its path if another one has that name; a run that is named twice is refused."""
    place, others = run.resolve(), [other.resolve() for other in runs]
    if others.count(place) > 1:
        raise SettingsError(f"{run} is there more than once: name each run once")
    alone = [other.name for other in others].count(place.name) == 1
    return place.name if alone else str(run)
