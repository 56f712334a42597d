"""Real digits, made small, for networks of a few hundred weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import load


class Digits:
    """MNIST (12,000 of it) averaged over squares of `pool` pixels: `x` is (10000, 1, s, s), float64."""

    def __init__(self, pool: int) -> None:
        data = load("mnist-12k")
        (self.x, self.y), (self.x_test, self.y_test) = (
            (F.avg_pool2d(x, pool).double(), y)
            for x, y in (part.batch(torch.arange(len(part))) for part in (data.train, data.test))
        )

    def train(self, network: nn.Module, seed: int, *, steps: int) -> float:
        """Train by Adam, in the dtype of the network; returns the test error as a share."""
        optimizer = torch.optim.Adam(network.parameters(), 0.005)
        draw = torch.Generator().manual_seed(seed)
        x = self._as(network, self.x)
        for _ in range(steps):
            some = torch.randint(len(self.x), (200,), generator=draw)
            optimizer.zero_grad()
            F.cross_entropy(network(x[some]), self.y[some]).backward()
            optimizer.step()
        return self.error(network)

    def error(self, network: nn.Module) -> float:
        """Test error as a share."""
        with torch.no_grad():
            wrong = network(self._as(network, self.x_test)).argmax(1) != self.y_test
        return float(wrong.double().mean())

    def _as(self, network: nn.Module, x: Tensor) -> Tensor:
        """Images in the dtype of a network."""
        return x.to(next(network.parameters()).dtype)
