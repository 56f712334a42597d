"""What every linear operator must satisfy. A new one inherits `OperatorConformance` and is tested.

`make` gives an operator; `columns` gives what each column should be, by other means than the
operator's own, or None where there are no other means.
"""

import pytest
import torch

from twostroke.errors import SettingsError, TooLargeError
from twostroke.theory import LinearOperator


def dot_gap(uv, y, v, uty):
    """Relative gap of ⟨Uv, y⟩ and ⟨v, Uᵀy⟩, measured by the norms that bound either."""
    scale = float(torch.maximum(uv.norm() * y.norm(), v.norm() * uty.norm()))
    return abs(float((uv * y).sum() - (v * uty).sum())) / scale if scale else 0.0


class OperatorConformance:
    def make(self) -> LinearOperator:
        raise NotImplementedError

    def truth(self) -> torch.Tensor | None:
        return None

    @pytest.fixture
    def operator(self):
        return self.make()

    def draw(self, size, seed=0):
        return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def test_transpose(self, operator):
        v, y = self.draw(operator.shape[1]), self.draw(operator.shape[0], 1)
        assert dot_gap(operator.matvec(v), y, v, operator.rmatvec(y)) < 1e-14

    def test_linear(self, operator):
        u, v = (self.draw(operator.shape[1], seed) for seed in (1, 2))
        whole = operator.matvec(2 * u - 3 * v)
        parts = 2 * operator.matvec(u) - 3 * operator.matvec(v)
        torch.testing.assert_close(whole, parts, rtol=1e-10, atol=1e-10)

    def test_dense_agrees_with_both_directions(self, operator):
        U = operator.dense()
        assert tuple(U.shape) == operator.shape
        v, y = self.draw(operator.shape[1], 3), self.draw(operator.shape[0], 4)
        torch.testing.assert_close(U @ v, operator.matvec(v), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(U.T @ y, operator.rmatvec(y), rtol=1e-10, atol=1e-10)

    def test_dense_agrees_with_the_base(self, operator):
        torch.testing.assert_close(
            operator.dense(), LinearOperator._dense(operator), rtol=1e-10, atol=1e-10
        )

    def test_transpose_agrees_with_the_base(self, operator):
        y = self.draw(operator.shape[0], 5)
        torch.testing.assert_close(
            operator.rmatvec(y), LinearOperator._rmatvec(operator, y), rtol=1e-10, atol=1e-10
        )

    def test_truth(self, operator):
        truth = self.truth()
        if truth is not None:
            torch.testing.assert_close(operator.dense(), truth, rtol=1e-10, atol=1e-10)

    def test_no_silent_densification(self, operator):
        size = operator.shape[0] * operator.shape[1] * 8
        with pytest.raises(TooLargeError, match=f"{size:,} bytes.*matvec"):
            operator.dense(limit_bytes=size - 1)
        operator.dense(limit_bytes=size)

    def test_wrong_sizes_are_refused(self, operator):
        with pytest.raises(SettingsError, match="columns"):
            operator.matvec(self.draw(operator.shape[1] + 1))
        with pytest.raises(SettingsError, match="rows"):
            operator.rmatvec(self.draw(operator.shape[0] + 1))
        with pytest.raises(SettingsError):
            operator.matvec(self.draw(operator.shape[1]).float())

    def test_blocks_make_the_columns(self, operator):
        if operator.blocks is not None:
            h, p, q = operator.blocks
            assert h * p * q == operator.shape[1]
