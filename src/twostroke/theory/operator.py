"""Linear operators that are applied, not stored: the base that every operator of this room shares."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..errors import SettingsError, TooLargeError

DENSE_LIMIT = 1 << 28  # bytes


def refuse_above(limit_bytes: int, nbytes: int, what: str, instead: str) -> None:
    """Raise `TooLargeError` where `nbytes` exceed the limit; `instead` names the way around."""
    if nbytes > limit_bytes:
        raise TooLargeError(
            f"{what} would take {nbytes:,} bytes, and the limit is {limit_bytes:,}: {instead}, or "
            f"pass limit_bytes={nbytes}"
        )


class LinearOperator(ABC):
    """A linear map of vectors, (columns,) → (rows,), known by what it does to them.

    A subclass gives `_matvec`. The transpose comes for free, since the vector-Jacobian product of a
    linear function is its transpose; override `_rmatvec` where there is a faster way. What every
    operator must satisfy is in `tests/theory/conformance.py`.

    `blocks` says how a column vector reads as `h` matrices of p × q, row by row: (h, p, q), or None
    where it does not. Rank-one recovery and restricted isometry need it.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        dtype: torch.dtype,
        device: torch.device,
        blocks: tuple[int, int, int] | None = None,
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.device = device
        self.blocks = blocks

    @abstractmethod
    def _matvec(self, v: Tensor) -> Tensor:
        """`U v` of a vector of the right size; differentiable."""

    def _rmatvec(self, y: Tensor) -> Tensor:
        with torch.enable_grad():
            v = torch.zeros(self.shape[1], dtype=self.dtype, device=self.device, requires_grad=True)
            (grad,) = torch.autograd.grad(self._matvec(v), v, y)
        return grad

    def matvec(self, v: Tensor) -> Tensor:
        """`U v`: (columns,) → (rows,). `SettingsError` for another size or dtype."""
        return self._matvec(self._checked(v, self.shape[1], "columns"))

    def rmatvec(self, y: Tensor) -> Tensor:
        """`Uᵀ y`: (rows,) → (columns,). `SettingsError` for another size or dtype."""
        return self._rmatvec(self._checked(y, self.shape[0], "rows"))

    def dense(self, *, limit_bytes: int = DENSE_LIMIT) -> Tensor:
        """The matrix, (rows, columns); `TooLargeError` with its size where it exceeds the limit."""
        rows, columns = self.shape
        refuse_above(
            limit_bytes,
            rows * columns * self.dtype.itemsize,
            f"the dense form of this operator of {rows} × {columns}",
            "use matvec and rmatvec, which store nothing of the kind",
        )
        return self._dense()

    def _dense(self) -> Tensor:
        eye = torch.eye(self.shape[1], dtype=self.dtype, device=self.device)
        return torch.stack([self._matvec(e) for e in eye], 1)

    def _checked(self, v: Tensor, size: int, side: str) -> Tensor:
        if v.shape != (size,) or v.dtype != self.dtype:
            raise SettingsError(
                f"an operator of {self.shape[0]} × {self.shape[1]} {self.dtype} takes a vector "
                f"of its {size} {side}, not {tuple(v.shape)} {v.dtype}"
            )
        return v

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shape[0]} × {self.shape[1]}, {self.dtype}>"


class DenseOperator(LinearOperator):
    """A matrix that is stored, (rows, columns); `blocks` as in `LinearOperator`."""

    def __init__(self, matrix: Tensor, *, blocks: tuple[int, int, int] | None = None) -> None:
        if matrix.ndim != 2:
            raise SettingsError(
                f"an operator's matrix is (rows, columns), not {tuple(matrix.shape)}"
            )
        if blocks is not None and blocks[0] * blocks[1] * blocks[2] != matrix.shape[1]:
            raise SettingsError(f"blocks {blocks} do not make {matrix.shape[1]} columns")
        rows, columns = matrix.shape
        super().__init__((rows, columns), dtype=matrix.dtype, device=matrix.device, blocks=blocks)
        self.matrix = matrix

    def _matvec(self, v: Tensor) -> Tensor:
        return self.matrix @ v

    def _rmatvec(self, y: Tensor) -> Tensor:
        return self.matrix.T @ y

    def _dense(self) -> Tensor:
        return self.matrix


def gaussian_operator(
    measurements: int, p: int, q: int, *, seed: int = 0, dtype: torch.dtype = torch.float64
) -> DenseOperator:
    """`measurements` × pq matrix of independent N(0, 1): the textbook operator of low-rank sensing.

    `‖U vec(V)‖² / measurements` is `‖V‖²` in the mean, which is the scale of eq. 29.
    """
    draw = torch.Generator().manual_seed(seed)
    matrix = torch.randn(measurements, p * q, generator=draw, dtype=dtype)
    return DenseOperator(matrix, blocks=(1, p, q))
