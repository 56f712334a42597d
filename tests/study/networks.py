"""Networks of float64 whose regions are few enough to look at all of them."""

import torch
import torch.nn.functional as F
from torch import nn


class Residual(nn.Module):
    """A skip connection, and one ReLU module that is called twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, 3)
        self.relu = nn.ReLU()

    def forward(self, x):
        z = self.relu(self.first(x))
        return self.last(self.relu(self.second(z) + z))


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 10), nn.Linear(10, 10), nn.Linear(10, 2)

    def forward(self, x):
        return self.c(F.leaky_relu(self.b(F.relu6(3 * self.a(x))), 0.1))


def networks():
    """By name: the network, and the shape of its inputs."""
    plain = nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(inplace=True), nn.Linear(16, 16), nn.PReLU(), nn.Linear(16, 2)
    )
    conv = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2)
    )
    pooled = nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 6),
        nn.ReLU(),
        nn.Linear(6, 2),
    )
    deepest = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, 1), nn.Flatten(), nn.Linear(8, 6))
    image = (1, 6, 6)
    found = {
        "plain": (plain, (6,)),
        "residual": (Residual(), (6,)),
        "functional": (Functional(), (6,)),
        "conv": (conv, image),
        "pooled": (pooled, image),
        "pooling alone": (deepest, image),
    }
    return {name: (net.double().eval(), shape) for name, (net, shape) in found.items()}


def inputs(count, shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(count, *shape, generator=draw, dtype=torch.float64)
