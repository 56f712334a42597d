"""What `dense_sparse_dense` returns: a result for each phase, and one for all of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from torch import nn

from ..training import EpochRecord, History, Status
from .layers import Sparsity


@dataclass(frozen=True, kw_only=True)
class PhaseResult:
    """One phase. Errors are the live network's on the test set, in %.

    `error_before` is that of the weights which the phase found, `error_masked` the same after masks
    were set or released, `error_estimated` after batch norm's statistics were estimated anew (which
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


@dataclass(frozen=True)
class DenseSparseDenseResult:
    """What `dense_sparse_dense` returns; `model` is the module that was given, a plain one.

    `notes` say what is worth knowing, such as which weights no mask reaches.
    """

    status: Status
    model: nn.Module
    phases: list[PhaseResult]
    sparse_sparsity: Sparsity  # at the end of the sparse phase
    detail: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def error(self) -> float:
        """Test error after the last phase, in %; NaN when there was none."""
        return self.phases[-1].error if self.phases else float("nan")

    @property
    def history(self) -> History:
        """All epochs, numbered through."""
        epochs = [record for phase in self.phases for record in phase.history]
        return History(
            EpochRecord(**(asdict(record) | {"epoch": number}))
            for number, record in enumerate(epochs, start=1)
        )
