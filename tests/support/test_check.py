"""Whether a model is held exactly: models whose passes differ by themselves are told apart."""

import numpy as np
import torch
from torch import nn

import twostroke as ts


class Noisy(nn.Module):
    """Draws from NumPy, as a drop of paths may."""

    def forward(self, x):
        return x * float(np.random.rand())


class Forgets(nn.Module):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls


def test_every_generator_draws_the_same_in_each_pass():
    x = torch.randn(3, 4)
    state = np.random.get_state()[1].copy()
    assert ts.check(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Noisy()), x).exact
    assert (np.random.get_state()[1] == state).all()
    found = ts.check(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Forgets()), x)
    assert all("from one pass to the next" in text for text in found.differs)
