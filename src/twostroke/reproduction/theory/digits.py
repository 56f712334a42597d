"""Real digits of 7×7 pixels, and a network that is small enough for its path operator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ...data import load
from ...support import record
from ...theory import LinearOperator, path_operator, plain_network

HIDDEN = 6
IMAGES = 2000


class Digits:
    """MNIST averaged to 7×7, flattened, in float64."""

    def __init__(self) -> None:
        data = load("mnist-12k")
        (self.x, self.y), (self.x_test, self.y_test) = (
            (F.avg_pool2d(x, 4).flatten(1).double(), y)
            for x, y in (part.batch(torch.arange(len(part))) for part in (data.train, data.test))
        )

    def network(self, seed: int) -> nn.Sequential:
        """49-6-10 without biases, random."""
        return plain_network(HIDDEN, 2, inputs=self.x.shape[1], outputs=10, seed=seed)

    def train(self, network: nn.Sequential, seed: int, *, steps: int = 800) -> float:
        """Train by Adam; returns the test error as a share."""
        optimizer = torch.optim.Adam(network.parameters(), 0.005)
        draw = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            some = torch.randint(len(self.x), (200,), generator=draw)
            optimizer.zero_grad()
            F.cross_entropy(network(self.x[some]), self.y[some]).backward()
            optimizer.step()
        with torch.no_grad():
            wrong = network(self.x_test).argmax(1) != self.y_test
        return float(wrong.double().mean())

    def operator(self, network: nn.Sequential) -> LinearOperator:
        """The path operator of the first logit."""
        x = self.x[:IMAGES]
        head = nn.Linear(HIDDEN, 1, bias=False).double()
        return path_operator(nn.Sequential(*list(network)[:2], head), record(network, x), x)
