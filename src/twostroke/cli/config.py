"""A command's options as a dataclass, and the `config.toml` that repeats them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ..errors import SettingsError, unknown
from ..training.run import read_toml

Config = TypeVar("Config")


def plain(config: Any) -> dict[str, Any]:
    """What goes into the file: options that have a value, paths as text."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(config).items()
        if value is not None
    }


def from_toml(path: Path, kind: type[Config]) -> Config:
    """Options of a command from a file; raises as `checked` does, and for a file that is not TOML."""
    return made(options_of(path, kind), kind)


def options_of(path: Path, kind: type) -> dict[str, Any]:
    """What a file says, as it stands there, checked."""
    return checked(read_toml(path), kind, path)


def made(values: Mapping[str, Any], kind: type[Config]) -> Config:
    """Options of a command from checked values."""
    hints = get_type_hints(kind)
    return kind(**{name: _made(value, hints[name]) for name, value in values.items()})


def _made(value: Any, wanted: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return Path(value) if Path in (wanted, *get_args(wanted)) else value


def checked(values: dict[str, Any], kind: type, path: Path) -> dict[str, Any]:
    """The values; an unknown or ill-typed option raises `SettingsError` with the near match."""
    known = [f.name for f in fields(kind)]
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name not in known:
            raise SettingsError(f"{path}: {unknown('option', name, known)}")
        if not _fits(value, hints[name]):
            raise SettingsError(
                f"{path}: {name} is {value!r}, where {_in_words(hints[name])} is wanted"
            )
    return values


def _in_words(wanted: Any) -> str:
    parts = get_args(wanted)
    if get_origin(wanted) is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if get_origin(wanted) is tuple:
        return f"a list of {len(parts)}, each {_in_words(parts[0])}"
    if parts:
        return " or ".join(_in_words(part) for part in parts if part is not type(None))
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        Path: "a path in quotes",
        str: "text in quotes",
    }
    return words[wanted]


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a value of a TOML file is of an option's type."""
    parts = get_args(wanted)
    if get_origin(wanted) is Literal:
        return value in parts
    if get_origin(wanted) is tuple:
        return (
            isinstance(value, list) and len(value) == len(parts) and all(map(_fits, value, parts))
        )
    if parts:  # one or the other
        return any(_fits(value, part) for part in parts)
    if isinstance(value, bool) or wanted is bool:
        return isinstance(value, bool) and wanted is bool
    if wanted is float:
        return isinstance(value, int | float)
    return isinstance(value, str if wanted is Path else wanted)


def refuse_beside_resume(*given: Any) -> None:
    """Raise `SettingsError` where any of `given` (options) is not as it is by default."""
    if any(options != type(options)() for options in given):
        raise SettingsError("--resume goes on with a run as it was: give no other option beside it")
