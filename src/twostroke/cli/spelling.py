"""Values that a command line and a TOML file write as text: `plateau:patience=3`, `energy:density=0.5`.

Such values are objects in Python. Here is how each is written and read, for tyro and for TOML files alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, Literal, get_args, get_origin

from ..alternation import Plateau
from ..errors import SettingsError, unknown
from ..support import BatchEnergy, Energy, MajorityVote, PositiveThreshold, Rule

OBJECTS: dict[str, Callable[..., Any]] = {
    "plateau": Plateau,
    "positive-threshold": PositiveThreshold,
    "energy": Energy,
    "batch-energy": BatchEnergy,
    "majority-vote": MajorityVote,
}
RULES = [name for name in OBJECTS if name != "plateau"]


def is_spelled(wanted: Any) -> bool:
    """Whether values of this type are written as text and read here."""
    parts = [part for part in (get_args(wanted) or (wanted,)) if part is not type(None)]
    return any(part in (Plateau, Rule) or get_origin(part) is Callable for part in parts) or (
        get_origin(wanted) is Callable
    )


def metavar(wanted: Any) -> str:
    """What the help says of such a type."""
    parts = get_args(wanted) or (wanted,)
    names = [str(name) for part in parts if get_origin(part) is Literal for name in get_args(part)]
    words = ["{" + ",".join(names) + "}"] * bool(names) + ["NAME"] * (str in parts)
    words += ["INT"] * (int in parts) + ["plateau[:patience=N]"] * (Plateau in parts)
    words += ["{" + ",".join(RULES) + "}[:density=SHARE]"] * (Rule in parts)
    words += ["none"] * (type(None) in parts)
    return "|".join(words)


def read(text: str, wanted: Any) -> Any:
    """The value that a text stands for; `SettingsError` says what could stand there."""
    parts = get_args(wanted) or (wanted,)
    if type(None) in parts and text.lower() == "none":
        return None
    if int in parts and text.isdecimal():
        return int(text)
    if str in parts or any(get_origin(part) is Callable for part in parts):
        return text  # a name, which is checked where it is used; functions have none
    name, _, rest = text.partition(":")
    names = [*(["plateau"] if Plateau in parts else []), *(RULES if Rule in parts else [])]
    if name not in names:
        raise SettingsError(
            unknown("value", text, [*names, *(["a number"] if int in parts else [])])
        )
    kind = OBJECTS[name]
    known = [f.name for f in fields(kind) if f.name != "total"] if is_dataclass(kind) else []
    given: dict[str, Any] = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if key not in known:
            raise SettingsError(unknown(f"setting of {name}", key, known))
        try:
            given[key] = int(value) if value.isdecimal() else float(value)
        except ValueError:
            raise SettingsError(f"{text}: write {key}=NUMBER, not {pair!r}") from None
        if not equals:
            raise SettingsError(f"{text}: write {key}=NUMBER")
    return kind(**given)


def written(value: Any) -> Any:
    """The text that `read` turns into this value; numbers, text and None as they are."""
    for name, kind in OBJECTS.items():
        if type(value) is kind and is_dataclass(value):
            said = {f.name: getattr(value, f.name) for f in fields(value) if f.name != "total"}
            pairs = [f"{key}={value}" for key, value in said.items() if value is not None]
            return f"{name}:{','.join(pairs)}" if pairs else name
    return value
