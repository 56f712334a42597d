"""Which site of a student learns from which site of a teacher, and by what connector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SettingsError, SupportMismatchError
from ..support import Site, sites
from ..support.modes import evaluating
from ..support.record import Inputs
from .above import one_bit


@dataclass(frozen=True)
class Pair:
    """One site of the student and the site of the teacher that it learns from.

    The student's pre-activations are averaged over `pool`×`pool` places, then brought to the teacher's
    channels by `connector`, where there is one.
    """

    student: Site
    teacher: Site
    pool: int = 1
    connector: nn.Module | None = None

    def carry(
        self,
        q: Tensor,  # (batch, *student.shape)
    ) -> Tensor:  # (batch, *teacher.shape)
        """What is compared with the teacher's sides."""
        if self.pool > 1:
            q = F.avg_pool2d(q, self.pool)
        return q if self.connector is None else self.connector(q)


class Pairs(Sequence[Pair]):
    """All pairs of a student and a teacher; `print` shows them as a table."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = tuple(pairs)

    @property
    def connectors(self) -> nn.ModuleDict:
        """Modules to be trained beside the student and thrown away afterwards; often empty."""
        found = {str(i): p.connector for i, p in enumerate(self) if p.connector is not None}
        return nn.ModuleDict(found)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: Any) -> Any:
        return self._pairs[index]

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs)

    def __str__(self) -> str:
        rows = [("student", "", "teacher", "", "by")]
        for pair in self:
            by = [f"mean of {pair.pool}×{pair.pool}"] if pair.pool > 1 else []
            by += ["connector"] if pair.connector is not None else []
            shapes = ["×".join(map(str, site.shape)) for site in (pair.student, pair.teacher)]
            keys = pair.student.key, pair.teacher.key
            rows.append((keys[0], shapes[0], keys[1], shapes[1], ", ".join(by) or "itself"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join(lines)


def same(teacher: Sequence[Site]) -> Pairs:
    """Each site with itself: for a student that has the teacher's sites."""
    return Pairs([Pair(site, site) for site in teacher])


def pair(
    student: nn.Module,
    teacher: Sequence[Site],
    x: Inputs,
    *,
    mapping: Mapping[str, str] | None = None,
) -> Pairs:
    """Pair a student's sites with a teacher's; one forward pass of `x`, (batch, ...), shows the student's.

    - A student that has all sites of the teacher by key, with pictures of the same size, learns each from
      its namesake. Where the number of channels differs, or where it is another network, a connector
      stands between: a 1×1 convolution with batch norm, as in FitNets (Romero et al. 2015).
    - In another network one site of each stage (of all sites with pictures of one size the widest, and of
      these the last) learns from that of the teacher's stage of the same size, or of one a whole number of
      times smaller, to which the student's picture is averaged.
    - `mapping` {student's key: teacher's key} overrules both.

    Connectors are made on the student's device, with weights of torch's present random state; train
    `pairs.connectors` beside the student and throw them away. Raises `SupportMismatchError` where nothing
    fits, or for what of `mapping` cannot be paired, by name.
    """
    with evaluating(student):
        mine = {site.key: one_bit(site) for site in sites(student, x, strict=False)}
    theirs = {site.key: one_bit(site) for site in teacher}
    if not mine:
        raise SupportMismatchError(
            f"{type(student).__name__} has no ReLU or other site to guide: take another student"
        )
    namesakes = all(
        key in mine and mine[key].shape[1:] == site.shape[1:] for key, site in theirs.items()
    )
    if mapping is not None:
        chosen = _mapped(mine, theirs, mapping)
    elif namesakes:
        chosen = [(mine[key], site) for key, site in theirs.items()]
    else:
        chosen = _by_stage(list(mine.values()), list(theirs.values()))
    device = next((p.device for p in student.parameters()), None)
    made = [_pair(one, other) for one, other in chosen]
    for each in made:
        if each.connector is not None:
            each.connector.to(device)
    return Pairs(made)


def _pair(student: Site, teacher: Site) -> Pair:
    """A pair with what stands between; `SupportMismatchError` where nothing can."""
    pool = _pool(student, teacher)
    if pool is None:
        raise SupportMismatchError(
            f"{student.key} of {_shape(student)} cannot learn from {teacher.key} of {_shape(teacher)}: the "
            "student's picture must be as large as the teacher's, or a whole number of times larger. "
            "Pair others by mapping={student's key: teacher's key}"
        )
    if student.key == teacher.key and student.shape == teacher.shape:
        return Pair(student, teacher)
    here, there = student.shape[0], teacher.shape[0]
    connector = (
        nn.Sequential(nn.Linear(here, there, bias=False), nn.BatchNorm1d(there))
        if len(student.shape) == 1
        else nn.Sequential(nn.Conv2d(here, there, 1, bias=False), nn.BatchNorm2d(there))
    )
    return Pair(student, teacher, pool, connector)


def _pool(student: Site, teacher: Site) -> int | None:
    """How many times larger the student's picture is; None where it is no whole number of times."""
    here, there = student.shape[1:], teacher.shape[1:]
    if here == there:
        return 1
    if len(here) != 2 or len(there) != 2:
        return None
    pool = here[0] // there[0]
    return pool if pool >= 1 and (pool * there[0], pool * there[1]) == here else None


def _mapped(
    mine: Mapping[str, Site], theirs: Mapping[str, Site], mapping: Mapping[str, str]
) -> list[tuple[Site, Site]]:
    if not mapping:
        raise SettingsError("mapping is empty: leave it out, or name the student's sites to guide")
    for whose, keys, known in (
        ("student", mapping.keys(), mine),
        ("teacher", mapping.values(), theirs),
    ):
        for key in keys:
            if key not in known:
                raise SupportMismatchError(
                    f"the {whose} has no site {key!r}; it has {', '.join(known)}"
                )
    return [(mine[key], theirs[other]) for key, other in mapping.items()]


def _by_stage(mine: Sequence[Site], theirs: Sequence[Site]) -> list[tuple[Site, Site]]:
    """Each stage of the teacher, with the student's stage of that size, or of the next larger one."""
    ends = _ends(mine)
    chosen = []
    for teacher in _ends(theirs):
        fits = [(pool, site) for site in ends if (pool := _pool(site, teacher)) is not None]
        # a picture of one pixel is a gate's (squeeze and excitation), no smaller view of the same
        fits = [fit for fit in fits if fit[0] == 1 or teacher.shape[1:] != (1, 1)]
        if fits:
            chosen.append((min(fits, key=lambda fit: fit[0])[1], teacher))
    if not chosen:
        raise SupportMismatchError(
            "no site of the student fits one of the teacher: the student's pictures are "
            f"{', '.join(_shape(site) for site in ends)}, the teacher's "
            f"{', '.join(_shape(site) for site in _ends(theirs))}, and the student's must be as large, or a "
            "whole number of times larger"
        )
    return chosen


def _ends(found: Sequence[Site]) -> list[Site]:
    """The site that stands for each stage: of the widest ones the last.

    The first convolution of a bottleneck sees the picture of the stage before, but is narrow.
    """
    stages: dict[tuple[int, ...], Site] = {}
    for site in found:
        size = site.shape[1:]
        if size not in stages or site.shape[0] >= stages[size].shape[0]:
            stages[size] = site
    return list(stages.values())


def _shape(site: Site) -> str:
    return "×".join(map(str, site.shape))
