"""`twostroke compare`: runs side by side, as a table and a page; or the page of one run, made again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from ..errors import RunFolderError, SettingsError


def compare(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    *,
    out: Path | None = None,
    targets: tuple[float, ...] = (),
) -> None:
    """Compare runs: a table, where their settings differ, and a page with learning curves, report.html.

    A single run without --out has its own report.html made again, in its folder.

    Args:
        runs: Folders that `twostroke train`, `dsd` or `distill` wrote.
        out: Folder for report.html and curves.png, which are replaced where they are there already; left out,
            twostroke-compare.
        targets: Test errors in %; another table then says how many epochs, steps and seconds each run took.
    """
    from ..report import comparison, differing, to_targets, write_comparison, write_report
    from ..runs import RunFolder
    from ..runs.files import make_folder

    if not runs:
        raise SettingsError("name at least one run's folder: twostroke compare runs/a runs/b")
    for target in targets:
        if not 0 <= target <= 100:
            raise SettingsError(
                f"targets are errors in %, between 0 and 100, which {target} is not"
            )
    alone = out is None and len(runs) == 1
    out = out or Path("twostroke-compare")
    if RunFolder(out).config_file.exists() and not alone:
        raise RunFolderError(f"{out} holds a run: choose another --out")
    if out.exists() and not out.is_dir():
        raise RunFolderError(f"{out} is a file, and --out is a folder: choose another --out")
    folders = {_name(run, runs): RunFolder(run) for run in runs}
    histories = {name: folder.history() for name, folder in folders.items()}
    configs = {name: f.config() for name, f in folders.items() if f.config_file.exists()}
    console = Console(markup=False)
    console.print(comparison(histories).table())
    sheets = []
    if targets:
        sheets.append(to_targets(histories, targets))
    if len(configs) > 1 and (differs := differing(_shared(configs))).rows:
        sheets.append(differs)
    for sheet in sheets:
        console.print(sheet.table())
    data = {
        name: _tested_by(config).get("data", "no test set")
        for name, config in configs.items()
        if "data" in config
    }
    lead = []
    if len(set(data.values())) > 1:
        told = ", ".join(f"{name} on {of}" for name, of in data.items())
        lead = [f"These runs are on different data, and their errors do not compare: {told}."]
        console.print(*lead, highlight=False, soft_wrap=True)
    try:
        if alone:
            page = write_report(*folders.values())
        else:
            make_folder(out)
            page = write_comparison(out, folders, sheets=sheets, lead=lead)
    except OSError as error:
        raise RunFolderError(f"the report could not be written: {error}") from error
    console.print(f"report: {page}", highlight=False, soft_wrap=True)


def _name(run: Path, runs: tuple[Path, ...]) -> str:
    """The folder's name, or its path if another one has that name; a run that is named twice is refused."""
    place, others = run.resolve(), [other.resolve() for other in runs]
    if others.count(place) > 1:
        raise SettingsError(f"{run} is there more than once: name each run once")
    alone = [other.name for other in others].count(place.name) == 1
    return place.name if alone else str(run)


def _shared(configs: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """Configurations without what only some of their commands have."""
    from ..runs.changes import dotted
    from .main import COMMANDS
    from .options import names

    commands = {config.get("command", "train") for config in configs.values()}
    if len(commands) == 1 or not all(n in COMMANDS and COMMANDS[n].config for n in commands):
        return configs
    both = set.intersection(*(names(COMMANDS[name].options()) for name in commands))
    return {
        run: {name: value for name, value in dotted(config).items() if name in both}
        for run, config in configs.items()
    }


def _tested_by(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of the run whose data a run has; those of a student may be its teacher's. Empty for no data."""
    from ..runs import RunFolder

    while config.get("data") == "teacher":
        run = RunFolder(config.get("teacher") or "torchvision:")
        config = run.config() if run.config_file.exists() else {}
    return {} if config.get("data") == "none" else config
