"""Who is told how a run goes: one object, with methods that do nothing unless they are overridden."""

from __future__ import annotations

from dataclasses import dataclass

from ..alternation import Phase
from ..runs import EpochRecord


@dataclass(frozen=True)
class Progress:
    """Where a run is: step `step` of `steps`, counted from 1, in epoch `epoch` of `epochs`, from 0."""

    epoch: int
    epochs: int
    step: int
    steps: int
    phase: Phase


class Listener:
    """Told by `fit` and by what calls it; override what you want to hear.

    In a run of several processes only the main one's listener is told.
    """

    def note(self, text: str) -> None:
        """Something that is worth knowing before training begins, such as where masks are kept."""

    def part(self, name: str) -> None:
        """A part of longer work begins: a phase of dense-sparse-dense, or one run of many."""

    def step(self, where: Progress) -> None:
        """An optimiser step was taken."""

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is over, evaluation included."""
