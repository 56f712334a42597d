"""Small networks of every kind that a stroke-wise solver meets, in float64, with examples and a support."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import twostroke as ts
from twostroke.solvers import HeldLoss


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv(self.relu(x)))


def batch_norm(channels: int) -> nn.Module:
    """Batch norm that has seen something: no statistic and no parameter is what it began with."""
    norm = nn.BatchNorm2d(channels)
    for p in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(p, 0.5, 0.5)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return norm


KINDS = {
    "fully connected": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(32, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3)
    ),
    "without bias": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3, bias=False)
    ),
    "one relu, twice": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(32, 6), (relu := nn.ReLU()), nn.Linear(6, 5), relu, nn.Linear(5, 3)
    ),
    "batch norm": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), batch_norm(4), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(4, 5, 2), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(5, 3),
    ),
    "residual": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), Residual(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 3),
    ),
    "max pooling": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2, groups=2),
        nn.PReLU(), nn.Flatten(), nn.Linear(4, 3),
    ),
}  # fmt: skip
CHAINS = ("fully connected", "without bias", "one relu, twice", "batch norm")


def made(kind: str, seed: int = 0, count: int = 40) -> tuple[nn.Module, ts.Support, Tensor, Tensor]:
    torch.manual_seed(seed)
    model = KINDS[kind]().double().eval()
    x = torch.randn(count, 2, 4, 4, dtype=torch.float64)
    return model, ts.record(model, x, pooling=True), x, torch.randint(0, 3, (count,))


def target(y: Tensor, loss: object, seed: int = 0) -> Tensor:
    """Classes for cross-entropy, random outputs for squared loss."""
    draw = torch.Generator().manual_seed(seed)
    return (
        y
        if loss is F.cross_entropy
        else torch.randn(len(y), 3, generator=draw, dtype=torch.float64)
    )


def problem(kind: str, loss=F.cross_entropy, seed: int = 0, count: int = 40, **options) -> HeldLoss:
    model, support, x, y = made(kind, seed, count)
    return HeldLoss.of(model, support, x, target(y, loss), loss=loss, **({"chunk": 15} | options))


def objective(p: HeldLoss) -> float:
    """The objective afresh, by the longest way: one example at a time."""
    total, count = 0.0, 0
    for part in p.parts:
        for n in range(len(part.y)):
            with ts.hold(p.model, part.support[n]), torch.no_grad():
                total += float(p.loss(p.model(part.x[n : n + 1]), part.y[n : n + 1]))
            count += 1
    squares = sum(float(w.detach().square().sum()) for w in p.weights.values())
    return total / count + p.weight_decay / 2 * squares
