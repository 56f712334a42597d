"""Weights of which most are zero."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from twostroke.guidance.students.zeros import join, mostly_zero, split


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.floats(0, 1), st.integers(0, 99))
def test_split_and_join(shape, share, seed):
    torch.manual_seed(seed)
    weight = torch.randn(shape) * (torch.rand(shape) < share)
    there, values = split(weight)
    bits = [(int(there[i // 8]) >> i % 8) & 1 for i in range(weight.numel())]
    assert bits == [int(w != 0) for w in weight.flatten().tolist()]
    assert values.tolist() == [w for w in weight.flatten().tolist() if w != 0]
    assert torch.equal(join(there, values, shape), weight)


def test_what_is_mostly_zero():
    assert mostly_zero(torch.tensor([[0.0, 0.0, 1.0]]))
    assert not mostly_zero(torch.tensor([[0.0, 1.0]]))
    assert not mostly_zero(torch.zeros(5))  # biases and statistics are small anyway


def test_values_that_do_not_fit():
    there, values = split(torch.tensor([[0.0, 2.0, 1.0]]))
    with pytest.raises(ValueError, match="1 values for 2 places"):
        join(there, values[:1], (1, 3))
