"""Docstrings as prose for tyro, which breaks lines where theirs break."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

_NEW = re.compile(
    r"(    \w+: |Args:$|$)"
)  # begins a line: an argument, their heading, an empty line


def flow(command: Callable[..., Any]) -> None:
    """Join the lines of each paragraph of what a command says of itself and its options.

    The command is a function, or a dataclass with groups of options that are dataclasses too. tyro takes the
    help of a field from its metadata, where there is some.
    """
    command.__doc__ = _flowing(command.__doc__ or "")
    if isinstance(command, type) and is_dataclass(command):
        told: dict[str, str] = {}
        for kind in reversed(command.__mro__):
            told |= _fields_told(kind) if is_dataclass(kind) else {}
        for field in fields(command):
            if field.name in told:
                field.metadata = {**field.metadata, "help": told[field.name]}  # type: ignore[assignment]
        for group in get_type_hints(command).values():
            if isinstance(group, type) and is_dataclass(group):
                flow(group)


def _flowing(text: str) -> str:
    lines: list[str] = []
    for line in inspect.cleandoc(text).splitlines():
        if not lines or not lines[-1] or lines[-1] == "Args:" or _NEW.match(line):
            lines.append(line)
        else:
            lines[-1] += " " + line.strip()
    return "\n".join(lines)


def _fields_told(kind: type) -> dict[str, str]:
    """The text below each field in the source of a dataclass, up to an empty line: the rest is for Python."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    told = {}
    for one, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            match below:
                case ast.Expr(ast.Constant(str(text))):
                    first, _, _ = inspect.cleandoc(text).partition("\n\n")
                    told[one.target.id] = " ".join(first.split())
    return told
