"""Small plain networks, by name, with a batch each."""

from itertools import pairwise

import torch
from torch import nn

from twostroke import record


def linear(*sizes):
    layers = []
    for ins, outs in pairwise(sizes):
        layers += [nn.Linear(ins, outs, bias=False), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def switched_by_one():
    relu = nn.ReLU()
    one, two, three = (nn.Linear(ins, outs, bias=False) for ins, outs in ((3, 4), (4, 4), (4, 2)))
    return nn.Sequential(one, relu, nn.Sequential(two, relu), three)


def repeated():
    layer = nn.Linear(3, 3, bias=False)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(3, 2, bias=False))


def conv(**options):
    first = nn.Conv2d(2, 3, 3, bias=False, **options)
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(3, 2, 2, bias=False))


NETWORKS = {
    "4-3-2": lambda: (linear(4, 3, 2), (4,)),
    "3-4-3-2": lambda: (linear(3, 4, 3, 2), (3,)),
    "2-2-3-2-2": lambda: (linear(2, 2, 3, 2, 2), (2,)),
    "conv": lambda: (conv(padding=1, stride=2), (2, 5, 5)),
    "conv, dilated": lambda: (conv(padding=2, dilation=2), (2, 4, 4)),
    "conv, circular": lambda: (conv(padding=1, padding_mode="circular"), (2, 4, 3)),
    "conv, fully connected": lambda: (
        nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 2, 3, padding="same", bias=False), nn.ReLU()),
            nn.Flatten(),
            nn.Linear(18, 2, bias=False),
        ),
        (1, 3, 3),
    ),
    "one relu, twice": lambda: (switched_by_one(), (3,)),
    "one layer, twice": lambda: (repeated(), (3,)),
    "masked output": lambda: (nn.Sequential(*linear(3, 3, 2), nn.ReLU()), (3,)),
}


TWO_LAYERS = (
    "4-3-2",
    "conv",
    "conv, dilated",
    "conv, circular",
    "conv, fully connected",
    "masked output",
)


def build(name, *, batch=5, seed=0):
    """Network, batch and support, in float64."""
    torch.manual_seed(seed)
    model, shape = NETWORKS[name]()
    model = model.double().eval()
    x = torch.randn(batch, *shape, dtype=torch.float64)
    return model, x, record(model, x)
