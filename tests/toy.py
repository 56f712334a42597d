"""A small problem that every room above the core is tried on: four kinds of blobs, a net of two sites."""

from dataclasses import MISSING, fields

import torch
from torch import Tensor, nn

from twostroke.data import Data, from_tensors
from twostroke.runs import EpochRecord


def toy_net(seed: int = 0, *, norm: bool = False, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 9, 4),
    )


def toy_record(**changes: object) -> EpochRecord:
    """An epoch of which only what matters is said."""
    values: dict[str, object] = {
        f.name: 0.5 for f in fields(EpochRecord) if f.default is f.default_factory is MISSING
    }
    values |= {
        "epoch": 1,
        "phase": "held",
        "round": 2,
        "steps": 30,
        "visits": 100,
        "stroke_visits": 0,
        "note": "",
    }
    return EpochRecord(**(values | changes))  # type: ignore[arg-type]


def toy_tensors(count: int = 160, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images (count, 1, 6, 6) with a bright corner each, and which corner it is."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 4
    x = 0.7 * torch.randn(count, 1, 6, 6, generator=draw)
    for i, k in enumerate(y.tolist()):
        x[i, 0, 3 * (k // 2) : 3 * (k // 2) + 3, 3 * (k % 2) : 3 * (k % 2) + 3] += 1.0
    return x, y


def toy_data(**options: object) -> Data:
    x, y = toy_tensors(160, seed=0)
    x_test, y_test = toy_tensors(80, seed=1)
    return from_tensors(x, y, x_test, y_test, **options)  # type: ignore[arg-type]
