"""What `dense_sparse_dense` returns: a result for each phase, and one for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import nn

from ..outcome import Result, Status
from ..runs import History
from ..training import FitResult
from .layers import Sparsity


@dataclass(frozen=True, kw_only=True)
class PhaseResult:
    """One phase. Errors are the live network's on the test set, in %.

    `error_before` is that of the weights which the phase found, `error_masked` the same after masks
    were set or released, `error_estimated` after batch norm's statistics were estimated again (which
    is where training starts), `error` at the end (NaN if no epoch was completed). `sparsity` is the
    share of zero weights at the end, `by_layer` by module path; `units_on` the share of units that
    unit masks left on, else None.
    """

    name: str
    epochs: int
    lr: float
    error_before: float
    error_masked: float
    error_estimated: float
    error: float
    sparsity: float
    by_layer: dict[str, float]
    units_on: float | None
    status: Status
    history: History = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class DenseSparseDenseResult(Result):
    """What `dense_sparse_dense` returns; `model` is the module that was given, a plain one.

    `notes` say what is worth knowing, such as which weights no mask reaches. `sparse_sparsity` is that at
    the end of the sparse phase.
    """

    ADVISES: ClassVar[Mapping[Status, str]] = {
        **FitResult.ADVISES,
        Status.FINISHED: "All phases were run.",
    }

    model: nn.Module
    phases: list[PhaseResult]
    sparse_sparsity: Sparsity

    @property
    def error(self) -> float:
        """Test error after the last phase, in %; NaN when there was none."""
        return self.phases[-1].error if self.phases else float("nan")

    @property
    def history(self) -> History:
        """All epochs, numbered through."""
        epochs = [record for phase in self.phases for record in phase.history]
        return History(replace(record, epoch=k) for k, record in enumerate(epochs, start=1))
