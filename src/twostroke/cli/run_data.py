"""The data of a run that is over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ..data import Data
from ..errors import SettingsError
from ..runs import About, RunFolder
from .lessons import options_of
from .options import DataOptions


def data_of(
    run: Path,
    about: About,
    data: str | None = None,
    data_root: Path | None = None,
) -> Data:
    """What a run was trained and tested on, or other data, as loaded: `as_taught` prepares them.

    `run` is its folder, or a file there. Raises `RunFolderError` for no run, `SettingsError` for one that was
    tested on nothing, and what `data.load` raises.
    """
    folder = RunFolder(run if run.is_dir() else run.parent)
    known = folder.config_file.exists() or data is None
    what = options_of(folder) if known else None
    if data is not None:  # another folder has its own splits
        what = replace(what or DataOptions(), data=data, image_size=None, split=None)
    if what is None:
        raise SettingsError(
            f"the run in {folder.path} has no test set of its own: say which by --data"
        )
    what = replace(what, data_root=data_root or what.data_root)
    return replace(what, preprocess="none", augmentation="none").load(
        Console(markup=False), about.prepared
    )
