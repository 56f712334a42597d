"""A command's options: a dataclass of real settings, from the command line over a TOML file.

tyro reads the command line and cattrs the file. Names, defaults, help and checks stand once, in the
dataclasses themselves. A field that is `Flat` has no prefix, neither as an option nor in the file.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro
from cattrs import Converter
from rich.console import Console
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
)

from ..data import Data, Preparation, load
from ..errors import SettingsError, TwostrokeError, unknown
from ..runs import RunFolder, changes, read_toml
from . import prose, spelling
from .weights import SOURCES

Kind = TypeVar("Kind", bound="RunOptions")
Flat = tyro.conf.arg(name="")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a run goes and where it comes from."""

    out: Path | None = None
    """Folder for the run, needed unless --resume is given; must not hold one already."""
    config: Path | None = None
    """TOML file with any of the options below, such as config.toml of another run."""
    resume: Path | None = None
    """Folder of a run that was stopped: go on with it, with its own settings. Few options may be given beside
    it, such as --device; --lr and --max-grad-norm only after divergence."""
    track: tuple[str, ...] = ()
    """Also send the numbers of each epoch to trackers: tensorboard (files in the run's folder), wandb, mlflow
    or another that Accelerate knows (pip install 'twostroke[track]')."""

    FIXED: ClassVar[Sequence[str]] = ()  # what may not change in this command
    UNUSED: ClassVar[Mapping[str, str]] = {}  # what is no option in it, and why


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which images, and how they are prepared."""

    PATHS: ClassVar[Sequence[str]] = ()  # options that may be a path

    data: str = "mnist-12k"
    """Data set: a name, npz:PATH, or folder:PATH with pictures in PATH/train/CLASS/ and PATH/val/CLASS/."""
    data_root: Path | None = None
    """Where named data sets lie or are downloaded to."""
    image_size: int | None = None
    """Pictures of a folder are resized and cut to so many pixels; left out, as the weights want it, or not at
    all."""
    split: float | None = None
    """Share of each class of a folder to test on, as in 0.2, where there is no folder val."""
    split_seed: int = 0
    """Which pictures are drawn for that."""
    augmentation: str = "none"
    """Replayable: none, shift, flip-shift, or resized-crop (pictures of a folder, and imagenet)."""
    preprocess: str = "none"
    """none is per-channel normalisation; raw, unit, gcn, gcn-zca (CIFAR as published; gcn-zca:BIAS sets the
    filter bias, 0.1), lcn (SVHN)."""

    def __post_init__(self) -> None:
        # in full, since the run's folder tells them to whoever is elsewhere
        kind, _, path = self.data.partition(":")
        if kind in ("folder", "npz") and path:
            object.__setattr__(self, "data", f"{kind}:{Path(path).expanduser().absolute()}")
        if self.data_root is not None:
            object.__setattr__(self, "data_root", self.data_root.expanduser().absolute())
        for name in self.PATHS:
            value = getattr(self, name)
            if value and value not in SOURCES and (place := Path(value).expanduser()).exists():
                object.__setattr__(self, name, type(value)(place.absolute()))

    def load(self, console: Console, prepared: Preparation | None = None) -> Data:
        """The data, with a bar while pictures are read; raises as `data.load` does."""
        from .progress import reading

        with reading(console) as told:
            return load(
                self.data,
                root=self.data_root,
                augmentation=self.augmentation,
                preprocess=self.preprocess,
                image_size=self.image_size,
                split=self.split,
                split_seed=self.split_seed,
                prepared=prepared,
                told=told,
            )


# -- the command line ----------------------------------------------------------------------------

registry = ConstructorRegistry()  # how values are written, in every command


@registry.primitive_rule
def _spelled(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Objects that are written as text."""
    wanted = info.type
    if not spelling.is_spelled(wanted):
        return None

    def read(texts: list[str]) -> Any:
        try:
            return spelling.read(texts[0], wanted)
        except SettingsError as error:
            raise ValueError(str(error)) from error

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=spelling.metavar(wanted),
        instance_from_str=read,
        is_instance=lambda value: True,
        str_from_instance=lambda value: ["none" if value is None else str(spelling.written(value))],
    )


@registry.primitive_rule
def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """A number, a text or a path that may be left out: `none` in small letters, as in TOML files."""
    parts = get_args(info.type)
    kinds = [part for part in parts if part is not type(None)]
    if len(parts) != 2 or len(kinds) != 1 or kinds[0] not in (int, float, str, Path):
        return None
    make = kinds[0]

    def read(texts: list[str]) -> Any:
        return None if texts[0].lower() == "none" else make(texts[0])

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{make.__name__.upper()}|none",
        instance_from_str=read,
        is_instance=lambda value: value is None or isinstance(value, make),
        str_from_instance=lambda value: ["none" if value is None else str(value)],
    )


def parse(kind: type[Kind], prog: str, arguments: Sequence[str], loud: bool = True) -> Kind:
    """Options of a command: those given, over those of the file or run that they name, over the defaults.

    Raises `SettingsError` for a file that does not fit, and beside --resume for --out and --config;
    `RunFolderError` for options that differ from those of the run and may not.
    """
    resume, file = _value_of(arguments, "resume"), _value_of(arguments, "config")
    default = kind()
    if resume is not None:
        RunFolder(resume).check_there()
        default = from_toml(RunFolder(resume).config_file, kind, command=prog.split()[-1])
    elif file is not None:
        default = from_toml(Path(file), kind, command=prog.split()[-1], resumed=False)
    told, usual = _plain(default), _plain(kind())
    for name, why in kind.UNUSED.items():
        typed = _value_of(arguments, name.replace("_", "-"))
        if typed is not None or told.get(name) != usual.get(name):
            raise SettingsError(why)
    prose.flow(kind)
    with registry:
        given = tyro.cli(
            kind, prog=prog, args=list(arguments), default=default, console_outputs=loud
        )
    if resume is not None:
        _check_same(given, default)
    elif given.out is None:
        raise SettingsError("say where the run is to go: --out runs/NAME")
    if given.track:
        from ..report.trackers import check_trackers

        check_trackers(given.track)
    return given


def _check_same(given: RunOptions, before: RunOptions) -> None:
    """Raise `TwostrokeError` for an option beside --resume that would make it another run."""
    assert given.resume is not None
    for name in ("out", "config"):
        if getattr(given, name) != getattr(before, name):
            raise SettingsError(
                f"--resume goes on with a run in its own folder, with its own settings: leave --{name} out"
            )
    run = RunFolder(given.resume)
    changes(
        run.path,
        plain(before),
        plain(given),
        diverged=run.diverged or not run.begun,
        fixed=[*given.FIXED, *given.UNUSED],
    )


def _value_of(arguments: Sequence[str], option: str) -> str | None:
    value = None
    for k, argument in enumerate(arguments):
        if argument == f"--{option}" and k + 1 < len(arguments):
            value = arguments[k + 1]
        elif argument.startswith(f"--{option}="):
            value = argument.partition("=")[2]
    return value


def check_picture(out: Path) -> None:
    """Raise `SettingsError` for a name of a picture that says no kind of picture."""
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".pdf", ".svg"):
        raise SettingsError(
            f"--out {out}: a picture's name ends in .png, .jpg, .jpeg, .pdf or .svg"
        )


# -- TOML files ----------------------------------------------------------------------------------


def plain(config: RunOptions) -> dict[str, Any]:
    """What goes into the file: options that have a value, under the names of the command line."""
    skipped = {f.name for f in fields(RunOptions)} | set(config.UNUSED)
    return {name: value for name, value in _plain(config).items() if name not in skipped}


def _plain(config: Any) -> dict[str, Any]:
    flat = _flat(type(config))
    told: dict[str, Any] = {}
    for one in fields(config):
        value = getattr(config, one.name)
        if one.name in flat:
            told |= _plain(value)
        elif (
            is_dataclass(value) and not isinstance(value, type) and _nested(type(config), one.name)
        ):
            told[one.name] = _plain(value)
        elif value is None:  # TOML has no word for it; left out it would come back as the default
            told |= {} if one.default is None else {one.name: "none"}
        else:
            value = spelling.written(value)
            told[one.name] = str(value) if isinstance(value, Path) else value
    return told


def names(kind: type, prefix: str = "") -> set[str]:
    """All options of a command, as in instance.gap."""
    told = set()
    for name, hint in get_type_hints(kind).items():
        if name in (f.name for f in fields(kind)):
            nested, inner = _nested(kind, name), "" if name in _flat(kind) else f"{name}."
            told |= names(hint, prefix + inner) if nested else {prefix + name}
    return told - set(getattr(kind, "UNUSED", ()))


def from_toml(
    path: Path, kind: type[Kind], *, command: str | None = None, resumed: bool = True
) -> Kind:
    """Options from a file; `SettingsError` names the file, the option, and what is wrong with it.

    With a `command`, a file of another one is refused, which was to be `resumed` or to give options.
    """
    values = read_toml(path)
    of = values.pop("command", command)
    if command is not None and of != command and not resumed:
        raise SettingsError(
            f"--config {path} has options of `twostroke {of}`, and this is `twostroke {command}`: give it to "
            "that command"
        )
    if command is not None and of != command:
        raise SettingsError(
            f"{path.parent} holds a run of `twostroke {of}`: go on with it by `twostroke {of} --resume "
            f"{path.parent}`"
        )
    return _structured(values, kind(), path)  # type: ignore[no-any-return]


def _structured(values: dict[str, Any], default: Any, path: Path, prefix: str = "") -> Any:
    """`default` with these values; a group begins with what it is there, not with its own defaults."""
    kind = type(default)
    flat = _flat(kind)
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind) if f.name not in flat}
    inner = {name: {f.name for f in fields(hints[name])} for name in flat}
    given: dict[str, Any] = {name: {} for name in flat}
    for name, value in values.items():
        group = next((g for g, names in inner.items() if name in names), None)
        if group is not None:
            given[group][name] = value
        elif name in known:
            given[name] = value
        else:
            names = [prefix + option for option in sorted(known.union(*inner.values()))]
            raise SettingsError(f"{path}: {unknown('option', prefix + name, names)}")
    made: dict[str, Any] = {}
    for name, value in given.items():
        if name in flat or _nested(kind, name):
            if not isinstance(value, dict):
                raise SettingsError(f"{path}: {prefix}{name} is a table, [{name}], not {value!r}")
            under = prefix if name in flat else f"{prefix}{name}."
            made[name] = _structured(value, getattr(default, name), path, under)
        else:
            made[name] = _value(value, hints[name], path, prefix + name)
    try:
        return replace(default, **made)
    except TwostrokeError as error:
        raise SettingsError(f"{path}: {error}") from error


def _value(value: Any, wanted: Any, path: Path, name: str) -> Any:
    if value == "none" and type(None) in get_args(wanted) and str not in get_args(wanted):
        return None
    try:
        return _converter.structure(value, wanted)
    except SettingsError as error:
        raise SettingsError(f"{path}: {name}: {error}") from error
    except Exception as error:
        raise SettingsError(
            f"{path}: {name} is {value!r}, where {_in_words(wanted)} is wanted"
        ) from error


def _exactly(kind: type) -> Any:
    def structure(value: Any, _: Any) -> Any:
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise ValueError(f"{value!r} is not {kind.__name__}")
        return value

    return structure


def _make_converter() -> Converter:
    converter = Converter()
    for kind in (bool, int, float, str):
        converter.register_structure_hook(kind, _exactly(kind))
    converter.register_structure_hook(Path, lambda value, _: Path(_exactly(str)(value, str)))
    converter.register_structure_hook_func(
        spelling.is_spelled, lambda value, wanted: spelling.read(str(value), wanted)
    )
    return converter


_converter = _make_converter()


def _flat(kind: type) -> set[str]:
    """Names of the fields that are groups without a prefix."""
    hints = get_type_hints(kind, include_extras=True)
    return {name for name, hint in hints.items() if Flat in getattr(hint, "__metadata__", ())}


def _nested(kind: type, name: str) -> bool:
    """Whether a field is a group of options of its own."""
    hint = get_type_hints(kind)[name]
    return is_dataclass(hint) and isinstance(hint, type) and not spelling.is_spelled(hint)


def _in_words(wanted: Any) -> str:
    parts = get_args(wanted)
    if get_origin(wanted) is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if get_origin(wanted) is tuple:
        return f"a list of {len(parts)}, each {_in_words(parts[0])}"
    if get_origin(wanted) in (Union, types.UnionType):
        return " or ".join(_in_words(part) for part in parts if part is not type(None))
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        Path: "a path in quotes",
        str: "text in quotes",
    }
    return words.get(wanted, "text in quotes")
