"""What the tests of the support room share: small nets, drawn nets, and slow ways to do things."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import hypothesis.strategies as st
import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import settings
from torch import Tensor, nn

from twostroke.support import HardThreshold, Site, Support, hold, record

drawn = settings(max_examples=25, deadline=None)
drawn_more = settings(max_examples=40, deadline=None)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers that depend on nothing but the arguments."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Call(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class Discarding(Call):
    """A function that works in place, and whose result is thrown away."""

    def forward(self, x: Tensor) -> Tensor:
        self.function(x)
        return x


class Residual(nn.Module):
    """A branch whose activation may work in place on what the shortcut passes on."""

    def __init__(self, layer: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.layer, self.act = layer, act

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return self.act(y) + y


# every way of writing a switching function that is a site: name → (kind, factory for 3 channels)
ACTIVATIONS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "nn.ReLU": ("relu", nn.ReLU),
    "nn.ReLU in place": ("relu", lambda: nn.ReLU(inplace=True)),
    "F.relu": ("relu", lambda: Call(F.relu)),
    "F.relu(input=)": ("relu", lambda: Call(lambda x: F.relu(input=x))),
    "F.relu in place": ("relu", lambda: Call(lambda x: F.relu(x, inplace=True))),
    "F.relu in place by position": ("relu", lambda: Call(lambda x: F.relu(x, True))),
    "F.relu_": ("relu", lambda: Call(F.relu_)),
    "torch.relu": ("relu", lambda: Call(torch.relu)),
    "torch.relu_": ("relu", lambda: Call(torch.relu_)),
    "Tensor.relu": ("relu", lambda: Call(lambda x: x.relu())),
    "Tensor.relu_": ("relu", lambda: Call(lambda x: x.relu_())),
    "Tensor.relu_, result unused": ("relu", lambda: Discarding(lambda x: x.relu_())),
    "clamp(min=0)": ("relu", lambda: Call(lambda x: x.clamp(min=0))),
    "torch.clamp(x, 0)": ("relu", lambda: Call(lambda x: torch.clamp(x, 0))),
    "clamp_(0.0)": ("relu", lambda: Discarding(lambda x: x.clamp_(0.0))),
    "clip(min=0)": ("relu", lambda: Call(lambda x: x.clip(min=0))),
    "clamp_min": ("relu", lambda: Call(lambda x: x.clamp_min(0))),
    "torch.clamp_min_": ("relu", lambda: Call(lambda x: torch.clamp_min_(x, 0.0))),
    "nn.Threshold": ("threshold", lambda: nn.Threshold(0.3, 0.0)),
    "F.threshold in place": ("threshold", lambda: Call(lambda x: F.threshold(x, -0.2, 0, True))),
    "torch.threshold": ("threshold", lambda: Call(lambda x: torch.threshold(x, 0.5, 0.0))),
    "torch.threshold_": ("threshold", lambda: Discarding(lambda x: torch.threshold_(x, 0.5, 0))),
    "HardThreshold": ("threshold", lambda: HardThreshold(0.25)),
    "HardThreshold by channel": (
        "threshold",
        lambda: HardThreshold(torch.tensor([0.1, -0.2, 0.4], dtype=torch.float64)),
    ),
    "nn.LeakyReLU": ("leaky_relu", lambda: nn.LeakyReLU(0.1)),
    "nn.LeakyReLU in place": ("leaky_relu", lambda: nn.LeakyReLU(0.3, inplace=True)),
    "F.leaky_relu": ("leaky_relu", lambda: Call(F.leaky_relu)),
    "F.leaky_relu_": ("leaky_relu", lambda: Discarding(lambda x: F.leaky_relu_(x, 0.2))),
    "negative slope": ("leaky_relu", lambda: Call(lambda x: F.leaky_relu(x, -0.4))),
    "slope 0": ("leaky_relu", lambda: nn.LeakyReLU(0.0)),
    "nn.PReLU": ("prelu", nn.PReLU),
    "nn.PReLU by channel": ("prelu", lambda: nn.PReLU(3)),
    "torch.prelu": ("prelu", lambda: Call(lambda x: torch.prelu(x, x.new_tensor([0.7])))),
    "Tensor.prelu": ("prelu", lambda: Call(lambda x: x.prelu(x.new_tensor([-0.3])))),
    "nn.ReLU6": ("clamp", nn.ReLU6),
    "nn.ReLU6 in place": ("clamp", lambda: nn.ReLU6(inplace=True)),
    "F.relu6": ("clamp", lambda: Call(F.relu6)),
    "nn.Hardtanh": ("clamp", nn.Hardtanh),
    "nn.Hardtanh(-0.3, 0.7) in place": ("clamp", lambda: nn.Hardtanh(-0.3, 0.7, inplace=True)),
    "F.hardtanh_": ("clamp", lambda: Discarding(lambda x: F.hardtanh_(x, -0.1, 0.2))),
    "clamp(-0.5, 0.5)": ("clamp", lambda: Call(lambda x: x.clamp(-0.5, 0.5))),
    "clamp_(0, 1)": ("clamp", lambda: Discarding(lambda x: x.clamp_(0, 1))),
    "clamp(min=-0.2)": ("clamp", lambda: Call(lambda x: x.clamp(min=-0.2))),
    "clamp(min=0.2)": ("clamp", lambda: Call(lambda x: torch.clamp(x, min=0.2))),
    "torch.clip(x, 0.1, 0.9)": ("clamp", lambda: Call(lambda x: torch.clip(x, 0.1, 0.9))),
}

every_activation = [(name, kind, make) for name, (kind, make) in ACTIVATIONS.items()]


def bits_equal(a: Tensor, b: Tensor) -> bool:
    """Same type, shape and numbers, undefined ones and the signs of zeros included."""
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(a.isnan(), b.isnan())
        and torch.equal(a.nan_to_num(0.0), b.nan_to_num(0.0))
        and torch.equal(a.signbit() & ~a.isnan(), b.signbit() & ~b.isnan())
    )


def run(model: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor | None]]:
    """Output of `model` for `x`, and the gradients of a sum of squares to input and parameters."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    output = model(x)
    # parameters last, and none of them twice
    wanted = [x, *(p for p in model.parameters() if p.requires_grad)]
    grads = torch.autograd.grad(output.square().sum(), wanted, allow_unused=True)
    return output.detach(), list(grads)


def assert_equal_runs(
    one: tuple[Tensor, list[Tensor | None]], two: tuple[Tensor, list[Tensor | None]]
) -> None:
    assert one[0].dtype == two[0].dtype
    assert torch.equal(one[0], two[0])
    assert len(one[1]) == len(two[1])
    for a, b in zip(one[1], two[1], strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


def assert_held_as_live(model: nn.Module, x: Tensor, **options: Any) -> Support:
    """What must hold, no. 1: `hold` right after `record` gives the same output and gradients."""
    live = run(model, x)
    support = record(model, x, **options)
    with hold(model, support):
        held = run(model, x)
    assert_equal_runs(live, held)
    return support


def close(one: tuple[Tensor, list[Tensor | None]], output: Tensor, inputs: list[Tensor]) -> None:
    """Compare a run with an output written out, and with its gradients."""
    torch.testing.assert_close(one[0], output.detach(), rtol=1e-11, atol=1e-11)
    grads = torch.autograd.grad(output.square().sum(), inputs, allow_unused=True)
    for a, b in zip(one[1], grads, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


# -- packing by other means --------------------------------------------------------------------


def packed_by_numpy(mask: Tensor) -> Tensor:
    """`bits.pack` by another library."""
    flat = mask.reshape(mask.shape[0], mask.shape[1:].numel()).numpy()
    return torch.from_numpy(np.packbits(flat, axis=1, bitorder="little"))


def support_of(planes: Mapping[Site, Sequence[Tensor]], *, shared: bool = False) -> Support:
    """A support put together by numpy: for each site its bool masks, (examples, *shape)."""
    rows = torch.cat([packed_by_numpy(mask) for masks in planes.values() for mask in masks], 1)
    return Support(list(planes), rows, shared=shared)


def random_masks(
    sites: Iterable[Site], examples: int, *, seed: int = 0, density: float = 0.5
) -> dict[Site, list[Tensor]]:
    """Masks that no network would choose; for three pieces, never both planes of a unit."""
    draw = torch.Generator().manual_seed(seed)
    masks = {}
    for site in sites:
        planes = [
            torch.rand(examples, *site.shape, generator=draw) < density for _ in range(site.planes)
        ]
        if site.kind == "clamp":
            planes[1] &= ~planes[0]
        masks[site] = planes
    return masks


def planes_of(index: Tensor, count: int) -> list[Tensor]:
    """Whole numbers (examples, ...) as `count` masks, the lowest bit first."""
    return [(index // 2**k) % 2 == 1 for k in range(count)]


# -- nets ----------------------------------------------------------------------------------------


class Twice(nn.Module):
    """One ReLU module called twice, functions beside it, in place and not, and a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.c2, self.fc = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 5)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.c1(x)))
        x = self.relu(self.c2(x)) + x
        x = F.relu(x - 0.5)
        x = x.mul(0.5).relu_()
        return self.fc((x.mean((2, 3)) - 0.1).clamp(min=0))


TWICE_KEYS = ["relu#0", "relu#1", "#0", "#1", "#2"]


def twice(seed: int = 0, dtype: torch.dtype = torch.float64) -> Twice:
    """`Twice` in evaluation mode, with running statistics that are not those of a fresh net."""
    torch.manual_seed(seed)
    net = Twice()
    net.bn.running_mean.normal_()
    net.bn.running_var.uniform_(0.5, 2)
    return net.to(dtype).eval()


def images(count: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """A batch that `Twice` takes."""
    return normal(count, 3, 7, 7, seed=seed, dtype=dtype)


def mlp(*widths: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b, dtype=dtype), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


POOLS: list[Callable[[], nn.Module]] = [
    lambda: nn.MaxPool2d(2),
    lambda: nn.MaxPool2d(3, stride=1, padding=1),
    lambda: nn.MaxPool2d(2, stride=2, ceil_mode=True),
    lambda: nn.MaxPool2d(2, dilation=2, stride=1),
    lambda: nn.AdaptiveMaxPool2d((2, 3)),
    lambda: Call(lambda x: F.max_pool2d(x, 2)),
    lambda: Call(lambda x: F.max_pool2d(x, (2, 1), return_indices=True)[0]),
    lambda: nn.AvgPool2d(2),
]


@st.composite
def nets(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """A small net of drawn layers with its input (batch, 3, height, width), in float64."""
    torch.manual_seed(draw(st.integers(0, 2**20)))
    batch, side = draw(st.integers(1, 3)), draw(st.integers(5, 8))
    x = torch.randn(batch, 3, side, draw(st.integers(5, 8)), dtype=torch.float64)
    layers: list[nn.Module] = []
    least = min(x.shape[2:])  # sides that are left, at least
    for _ in range(draw(st.integers(1, 4))):
        kernel, padding = draw(st.sampled_from([(1, 0), (3, 1), (3, 0)] if least > 4 else [(1, 0)]))
        least -= kernel - 1 - 2 * padding
        conv = nn.Conv2d(3, 3, kernel, padding=padding, bias=draw(st.booleans()))
        act = ACTIVATIONS[draw(st.sampled_from(sorted(ACTIVATIONS)))][1]()
        block = [Residual(conv, act)] if draw(st.booleans()) else [conv, act]
        if draw(st.booleans()):
            norm = nn.BatchNorm2d(3)
            norm.running_mean, norm.running_var = torch.randn(3), torch.rand(3) + 0.5
            block.insert(1, norm)
        if least > 2 and draw(st.booleans()):
            block.append(draw(st.sampled_from(POOLS))())
            least = 2 if isinstance(block[-1], nn.AdaptiveMaxPool2d) else least // 2
        layers += block
    layers += [nn.Flatten(), nn.LazyLinear(4)]
    if draw(st.booleans()):
        layers += [nn.ReLU(), nn.Linear(4, 2)]
    net = nn.Sequential(*layers).double().eval()
    net(x)  # gives the lazy layer its shape
    return net, x
