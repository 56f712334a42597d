"""What weights carry, against loops written out over places, for every kind of layer."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from twostroke.sparsity.carried import Call, calls_of, carried


def by_loops(layer: nn.Conv2d, z, m):
    """w² Σ z² m, place by place and weight by weight."""
    (sh, sw), (dh, dw), (ph, pw) = layer.stride, layer.dilation, layer.padding
    padded = F.pad(z, (pw, pw, ph, ph))
    per_out = layer.out_channels // layer.groups
    per_in = layer.in_channels // layer.groups
    total = torch.zeros_like(layer.weight)
    for o, i, a, b in itertools.product(*map(range, layer.weight.shape)):
        source = padded[:, (o // per_out) * per_in + i]
        for y, x in itertools.product(range(m.shape[2]), range(m.shape[3])):
            place = source[:, y * sh + a * dh, x * sw + b * dw]
            total[o, i, a, b] += (place**2 * m[:, o, y, x]).sum()
    return layer.weight.detach() ** 2 * total


@pytest.mark.parametrize(
    "options",
    [
        {"in_channels": 2, "out_channels": 3, "kernel_size": 3},
        {
            "in_channels": 2,
            "out_channels": 3,
            "kernel_size": (1, 3),
            "padding": (0, 1),
            "bias": False,
        },
        {
            "in_channels": 4,
            "out_channels": 6,
            "kernel_size": 3,
            "padding": 1,
            "stride": 2,
            "groups": 2,
        },
        {
            "in_channels": 3,
            "out_channels": 3,
            "kernel_size": 3,
            "padding": 2,
            "dilation": 2,
            "groups": 3,
        },
    ],
)
def test_convolutions(options):
    layer = nn.Conv2d(**options).double()
    z = torch.randn(2, options["in_channels"], 6, 7, dtype=torch.float64)
    m = (torch.rand_like(layer(z)) > 0.5).double()
    torch.testing.assert_close(
        carried(Call(layer, z.square(), z, m)), by_loops(layer, z, m).detach()
    )


def test_linear_layers_also_over_tokens():
    layer = nn.Linear(4, 3).double()
    z = torch.randn(5, 2, 4, dtype=torch.float64)
    m = (torch.rand(5, 2, 3) > 0.5).double()
    expected = layer.weight.detach() ** 2 * torch.einsum("bti,bto->oi", z**2, m)
    torch.testing.assert_close(carried(Call(layer, z.square(), z, m)), expected)


class Branches(nn.Module):
    """Two convolutions and their ReLU through everything that may stand between them."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.a, self.b = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(6 if kind == "concatenated" else 3)
        self.relu = nn.ReLU(inplace=kind != "plain")
        self.head = nn.Linear(self.norm.num_features, 2)
        with torch.no_grad():
            self.norm.weight.normal_()
            self.norm.bias.normal_()

    def forward(self, x):
        q = self.norm(self.a(x)) if self.kind == "plain" else self.a(x)
        if self.kind == "residual":
            first = q.relu()
            q = self.norm(self.b(input=first)) + first
        elif self.kind == "concatenated":
            q = self.norm(torch.cat([q, self.b(q)], 1))
        self.seen = q.detach().clone()
        return self.head(self.relu(q).mean((2, 3)))


@pytest.mark.parametrize("kind", ["plain", "residual", "concatenated"])
def test_the_mask_is_that_of_the_relu_behind_the_layer(kind):
    model = Branches(kind).double()
    model.train()
    calls = calls_of(model, torch.randn(4, 2, 5, 5, dtype=torch.float64))
    assert model.training
    on = (model.seen > 0).double()
    last = "a" if kind == "plain" else "b"
    assert torch.equal(calls[last][0].mask, on[:, -3:])
    if kind == "residual":
        with torch.no_grad():
            assert torch.equal(calls["a"][0].mask, (calls["b"][0].squared > 0).double())
    if kind == "concatenated":
        assert torch.equal(calls["a"][0].mask, on[:, :3])
    assert bool((calls["head"][0].mask == 1).all())  # logits have no ReLU behind them
    assert not any(len(m._forward_hooks) for m in model.modules())


def test_hooks_go_when_the_model_fails():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2))
    with pytest.raises(RuntimeError):
        calls_of(model, torch.randn(1, 1, 6, 6))
    assert not any(len(m._forward_hooks) for m in model.modules())
