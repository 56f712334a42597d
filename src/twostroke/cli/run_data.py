"""The data of a run that is over."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

from rich.console import Console

from ..data import Data
from ..errors import SettingsError
from ..runs import About, RunFolder
from .lessons import LessonOptions
from .options import DataOptions, from_toml


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
    what = _own(RunFolder(run if run.is_dir() else run.parent), needed=data is None)
    if data is not None:  # another folder has its own splits
        what = replace(what, data=data, image_size=None, split=None)
    what = replace(what, data_root=data_root or what.data_root)
    return replace(what, preprocess="none", augmentation="none").load(
        Console(markup=False), about.prepared
    )


def _own(run: RunFolder, *, needed: bool) -> DataOptions:
    """Options of the data that a run was tested on; those of a student may be its teacher's.

    Raises `SettingsError` where it was tested on none, and data of its own are `needed`.
    """
    from .main import COMMANDS

    if run.config_file.exists() or needed:
        command = COMMANDS[run.config().get("command", "train")]
        kind = getattr(import_module(f".{command.module}", __package__), str(command.config))
        what: DataOptions = from_toml(run.config_file, kind)
        if not isinstance(what, LessonOptions):
            return what
        if what.data == "teacher" and Path(what.teacher).is_dir():
            return _own(RunFolder(what.teacher), needed=needed)
        if what.data not in ("teacher", "none"):
            return what
    if needed:
        raise SettingsError(
            f"the run in {run.path} has no test set of its own: say which by --data"
        )
    return DataOptions()
