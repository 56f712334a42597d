"""What may change where a run goes on, and what must stay as it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import RunFolderError

# how long a run is, where it computes, and what is beside the training
FREE = (
    "epochs",
    "target_error",
    "checkpoint_minutes",
    "device",
    "timeout",
    "data_root",
    "instance.store",
)
# what the advice to a diverged run names
REMEDIES = ("lr", "max_grad_norm", "instance.gap", "instance.drift")


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by the names of the command line, as in instance.gap."""
    told: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            told |= dotted(value, f"{prefix}{name}.")
        else:
            told[prefix + name] = value
    return told


def changes(
    where: object,
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    *,
    diverged: bool,
    fixed: Sequence[str] = (),
) -> dict[str, tuple[Any, Any]]:
    """What differs, before and now, by name.

    Raises `RunFolderError` for the first that must not; `where` is what the run is kept in. `fixed` are names
    that may not change here although they may elsewhere.
    """
    free = [name for name in FREE if name not in fixed]
    then, here = (dotted(json.loads(json.dumps(dict(one)))) for one in (before, now))
    found = {}
    for name in sorted(then.keys() | here.keys()):
        if then.get(name) == here.get(name):
            continue
        if name in REMEDIES and not diverged:
            raise RunFolderError(
                f"{_differs(where, name, then, here)}: that may change where a run has diverged, and this one "
                "has not"
            )
        if name not in free and name not in REMEDIES:
            raise RunFolderError(
                f"{_differs(where, name, then, here)}: go on with the settings that it was started with, or "
                f"begin another run. What may change is {', '.join(free)}"
                + (f"; and since it diverged {', '.join(REMEDIES)}" if diverged else "")
            )
        found[name] = then.get(name), here.get(name)
    return found


def _differs(where: object, name: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    was, is_ = (repr(one[name]) if one.get(name) is not None else "left out" for one in (then, now))
    return f"{where} is of a run with {name} = {was}, not {is_}"


def in_words(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """As in "epochs 10 → 30, lr 0.1 → 0.01"."""
    shown = {k: tuple("usual" if v is None else v for v in pair) for k, pair in changed.items()}
    return ", ".join(f"{name} {before} → {now}" for name, (before, now) in shown.items())
