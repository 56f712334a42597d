"""Does an operator satisfy what Theorem 1 asks of it (eq. 29), or what is known to suffice?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SettingsError
from .operator import DENSE_LIMIT, LinearOperator, refuse_above
from .restricted import Restricted, restricted

# δ < 1/2 over rank-two matrices is sufficient for the absence of spurious local minima in factored
# recovery of rank-one truth, and no larger number is (Zhang, Sojoudi, Lavaei 2019)
SHARP = 0.5


@dataclass(frozen=True)
class RipReport:
    """What `rip` found of an operator U of m rows.

    `spectrum` is (columns,): squared singular values of U over m, rising, with as many zeros as U
    has dimensions of null space: eq. 29's λ²/m, "eigenvalue" read as singular value, since U is
    not square. `epsilon` is the largest ε for which eq. 29 holds, or None; then `reason` says why
    not. `zero_columns` counts columns that are zero. `restricted` holds one entry a rank that was
    asked for; for an operator without `blocks` it is empty.
    """

    measurements: int
    columns: int
    blocks: tuple[int, int, int] | None
    zero_columns: int
    spectrum: Tensor
    epsilon: float | None
    reason: str
    restricted: tuple[Restricted, ...]

    @property
    def satisfies_theorem(self) -> bool:
        """Whether eq. 29 holds for some 0 < ε < 1/10."""
        return self.epsilon is not None

    @property
    def sharp(self) -> bool | None:
        """Whether δ < 1/2 over rank two, up to a multiple of U: the sharp condition for rank-one truth.

        False where the search found a violation, True where the upper bound proves it, None where
        neither is known, rank two was not asked for, or the unknown is several matrices (path
        form), to which the condition does not speak.
        """
        for entry in self.restricted:
            if entry.rank == 2 and self.blocks is not None and self.blocks[0] == 1:
                if entry.delta_scaled >= SHARP:
                    return False
                return True if entry.delta_scaled_bound < SHARP else None
        return None


def rip(
    operator: LinearOperator,
    *,
    ranks: tuple[int, ...] = (1, 2),
    starts: int = 32,
    seed: int = 0,
    limit_bytes: int = DENSE_LIMIT,
) -> RipReport:
    """Full spectrum, the test of eq. 29, and restricted isometry constants over low ranks.

    For a `PathOperator` "rank" is that of each hidden unit's block. The search costs eigenproblems of size
    h·p·rank for each start; see `restricted`. Raises `TooLargeError` where
    the columns' Gram matrix exceeds `limit_bytes`.
    """
    m, columns = operator.shape
    if not m or not columns:
        raise SettingsError(
            f"an operator of {m} × {columns} has no spectrum: it needs rows and columns"
        )
    refuse_above(
        limit_bytes,
        columns * columns * operator.dtype.itemsize,
        f"the Gram matrix of {columns} columns",
        "take the path form, fewer units or a smaller input",
    )
    U = operator.dense(limit_bytes=limit_bytes)
    zero = int((U == 0).all(0).sum())
    values = torch.linalg.svdvals(U).square().flip(0) / m
    spectrum = torch.cat([values.new_zeros(columns - len(values)), values])
    epsilon, reason = _equation_29(spectrum, m, columns, zero)
    found: tuple[Restricted, ...] = ()
    if operator.blocks is not None:
        G = U.T @ U / m
        found = tuple(
            restricted(G, operator.blocks, rank, starts=starts, seed=seed) for rank in ranks
        )
    return RipReport(m, columns, operator.blocks, zero, spectrum, epsilon, reason, found)


def _equation_29(spectrum: Tensor, m: int, columns: int, zero: int) -> tuple[float | None, str]:
    low, high = float(spectrum[0]), float(spectrum[-1])
    epsilon = min(low - 0.9, 1.1 - high)
    if epsilon > 0:
        return epsilon, f"eq. 29 holds with ε up to {epsilon:.4f}"
    if zero:
        return None, (
            f"{zero} of {columns} columns are zero, so that λ_min = 0: no data can mend it in the "
            "lifted form, where weights that never meet have such columns; the path form drops them"
        )
    if m < columns:
        return None, f"{m} rows cannot make {columns} columns independent, so that λ_min = 0"
    return None, (
        f"λ²/m runs from {low:.4g} to {high:.4g}, where eq. 29 wants at least 0.9 and at most 1.1: "
        + ("no multiple of U would do" if low <= 0 or high / low >= 11 / 9 else "rescale U")
    )
