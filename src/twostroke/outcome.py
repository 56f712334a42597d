"""How work ended: one status, one result type, and the advice that goes with each status.

`fit`, `dense_sparse_dense`, `distill`, the solvers and `recover` all return a `Result`, each with fields
of its own beside it. None of them raises for want of convergence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar


class Status(StrEnum):
    """How work ended, in one word."""

    FINISHED = "finished"
    TARGET = "target"
    CONVERGED = "converged"
    NOT_UNIQUE = "not unique"
    LIMIT = "limit"
    STALLED = "stalled"
    SINGULAR = "singular"
    INTERRUPTED = "interrupted"
    DIVERGED = "diverged"

    @property
    def ok(self) -> bool:
        """Whether what was asked for was reached."""
        return self in (Status.FINISHED, Status.TARGET, Status.CONVERGED)


ADVICE: Mapping[Status, str] = {
    Status.FINISHED: "All was done that was asked for.",
    Status.TARGET: "The target was reached before the end.",
    Status.CONVERGED: "The tolerance was reached.",
    Status.NOT_UNIQUE: "The problem is solved, and other solutions solve it too.",
    Status.LIMIT: "The budget is spent, and there was still progress: allow more steps.",
    Status.STALLED: "There is no more progress, and the tolerance is not reached.",
    Status.SINGULAR: "A linear solve met a matrix without full rank.",
    Status.INTERRUPTED: "Stopped on request. What was done is kept.",
    Status.DIVERGED: "The objective exploded or became undefined.",
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """How work ended.

    status: the word for it.
    detail: where and why, such as the epoch in which a run diverged; "" where there is nothing to say.
    notes: what is worth knowing, a line each.

    A subclass says in `ADVISES` what a status means for its own kind of work.
    """

    ADVISES: ClassVar[Mapping[Status, str]] = {}

    status: Status
    detail: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether what was asked for was reached."""
        return self.status.ok

    @property
    def advice(self) -> str:
        """What the status means, and what to do about it."""
        return self.ADVISES.get(self.status, ADVICE[self.status])

    @property
    def message(self) -> str:
        """Status, detail and advice in one line."""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.status}{detail}: {self.advice}"
