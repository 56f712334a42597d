"""Sites: the places in a forward pass where a unit-wise switch stands."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from .bits import packed_bytes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Site:
    """One call of a switching function in a model's forward pass (the paper's ℓ).

    `path` is the dotted name of the innermost module whose forward was running ("" for the model
    itself), `call` counts the switching calls, max pooling included, that were made there before
    in the same forward pass: a `self.relu` used twice gives two sites of one path.

    `shape` is that of one example, without the batch. `planes` is the number of bits a unit needs:
    1 for a ReLU, 2 where there are three pieces (ReLU6), more for max pooling.
    """

    path: str
    call: int
    kind: str
    shape: tuple[int, ...]
    planes: int = 1

    @property
    def key(self) -> str:
        """Name by which the site is looked up and reported: `layer1.0.relu#1`."""
        return f"{self.path}#{self.call}"

    @property
    def units(self) -> int:
        """Number of units of one example."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that one example's support takes: ⌈units / 8⌉ for each plane."""
        return self.planes * packed_bytes(self.units)

    def __str__(self) -> str:
        shape = "×".join(map(str, self.shape))
        return f"{self.key:<32} {self.kind:<12} {shape:<14} {self.units} units"

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for headers."""
        return {
            "path": self.path,
            "call": self.call,
            "kind": self.kind,
            "shape": list(self.shape),
            "planes": self.planes,
        }

    @classmethod
    def from_json(cls, entry: object) -> Site:
        """Undo `to_json`, with every field checked; raises `ValueError`."""
        match entry:
            case {
                "path": str(path),
                "call": int(call),
                "kind": str(kind),
                "shape": list(shape),
                "planes": int(planes),
            } if 1 <= planes <= 64 and all(
                type(n) is int and n >= 0 for n in (call, planes, *shape)
            ):
                return cls(path, call, kind, tuple(shape), planes)
        raise ValueError(f"not a site: {entry!r:.200}")


def row_bytes(sites: Iterable[Site]) -> int:
    """Bytes that one example's support takes at all of these sites."""
    return sum(site.nbytes for site in sites)


def site_of(sites: Iterable[Site], key: str | Site) -> Site:
    """The site of that key or path; raises `KeyError`, with the known ones, for another."""
    if isinstance(key, Site):
        key = key.key
    known = list(sites)
    found = [s for s in known if key in (s.key, s.path)]
    if len(found) == 1:
        return found[0]
    what = "is the path of several sites" if found else "is no site of this support"
    raise KeyError(f"{key!r} {what}: choose among {', '.join(s.key for s in found or known)}")


class BySite(dict[Site, T]):
    """What is known of each site, also found by the site's key or path."""

    def __missing__(self, key: str | Site) -> T:
        return self[site_of(self, key)]
