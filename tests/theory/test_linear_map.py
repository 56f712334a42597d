"""The affine map of a held network, against dense truth and against torchvision's networks."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from twostroke import hold, record
from twostroke.errors import SettingsError, SupportMismatchError, TooLargeError, UnholdableError
from twostroke.theory import linear_map

from .conformance import dot_gap
from .networks import NETWORKS, build


def eager(model):
    """Batch norm with statistics and biases that are not trivial, evaluation mode, float64."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.bias)
    return model.double().eval()


class Residual(nn.Module):
    """Batch norm, a ReLU used twice and in place, a residual connection, max pooling, ReLU6."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(16, 3)
        self.act = nn.ReLU6()

    def forward(self, x):
        z = self.relu(self.norm(self.conv1(x)))
        z = self.relu(self.conv2(z) + z)
        z = F.leaky_relu(F.max_pool2d(z, 2), 0.1)
        return self.head(self.act(4 * z).flatten(1))


def small():
    torch.manual_seed(0)
    return eager(Residual()), torch.randn(3, 2, 4, 4, dtype=torch.float64)


def brute(model, support, x):
    """A and b by one held forward pass for every input: columns f(e_i) - f(0)."""
    with torch.no_grad(), hold(model, support):
        b = model(torch.zeros_like(x))
        columns = []
        for i in range(x[0].numel()):
            e = torch.zeros_like(x).flatten(1)
            e[:, i] = 1
            columns.append(model(e.view_as(x)) - b)
    return torch.stack(columns, -1).view(*b.shape, *x.shape[1:]), b


def transpose_gap(found):
    draw = torch.Generator().manual_seed(0)
    dx = torch.randn(found.x.shape, generator=draw, dtype=torch.float64)
    dy = torch.randn(found.output.shape, generator=draw, dtype=torch.float64)
    return dot_gap(found.matvec(dx), dy, dx, found.rmatvec(dy))


def test_dense_against_brute_force():
    model, x = small()
    support = record(model, x, pooling=True)
    found = linear_map(model, support, x)
    A, b = found.dense()
    A_true, b_true = brute(model, support, x)
    torch.testing.assert_close(A, A_true, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(b, b_true, rtol=1e-10, atol=1e-10)
    y = torch.einsum("nochw,nchw->no", A, x) + b
    torch.testing.assert_close(y, model(x), rtol=1e-10, atol=1e-10)
    assert transpose_gap(found) < 1e-14


@pytest.mark.parametrize("name", NETWORKS)
def test_plain_networks(name):
    model, x, support = build(name)
    found = linear_map(model, support, x)
    A, b = found.dense()
    rows = A.view(len(x), -1, x[0].numel())
    y = (rows @ x.flatten(1)[..., None]).view_as(b) + b
    torch.testing.assert_close(y, model(x).detach(), rtol=1e-10, atol=1e-12)
    assert bool((b != 0).any()) is any("bias" in n for n, _ in model.named_parameters())


@pytest.mark.parametrize(
    "name", ["resnet18", "squeezenet1_1", "mobilenet_v2", "shufflenet_v2_x0_5"]
)
def test_torchvision(name):
    model = eager(torchvision.models.get_model(name, num_classes=5))
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        y = model(x)
    found = linear_map(model, record(model, x, pooling=True), x)
    scale = float(y.abs().max())
    torch.testing.assert_close(found.output, y, rtol=0, atol=1e-12 * scale)
    torch.testing.assert_close(found.matvec(x) + found.bias, y, rtol=0, atol=1e-10 * scale)
    assert transpose_gap(found) < 1e-13
    shares = found.attribution(3)
    total = shares.inputs.flatten(1).sum(1) + shares.bias
    torch.testing.assert_close(total, y[:, 3], rtol=0, atol=1e-10 * scale)
    assert shares.inputs.shape == x.shape


def test_leaves_the_model_alone_and_works_without_gradients():
    model, x = small()
    support = record(model, x, pooling=True)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        found = linear_map(model, support, x)
        found.matvec(x)
        found.rmatvec(found.output)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not x.requires_grad


def test_changed_weights_are_refused():
    model, x = small()
    found = linear_map(model, record(model, x, pooling=True), x)
    with torch.no_grad():
        model.head.weight.mul_(2)
    with pytest.raises(SettingsError, match="weights have changed"):
        found.matvec(x)


def test_large_dense_is_refused_with_the_figure():
    model, x = small()
    found = linear_map(model, record(model, x, pooling=True), x)
    with pytest.raises(TooLargeError, match=r"2,304 bytes.*matvec"):
        found.dense(limit_bytes=2303)
    found.dense(limit_bytes=2304)
    with pytest.raises(SettingsError, match="matvec takes"):
        found.matvec(x[:2])


def test_more_outputs_than_inputs():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 7)).double().eval()
    x = torch.randn(4, 2, dtype=torch.float64)
    support = record(model, x)
    A, b = linear_map(model, support, x).dense()
    A_true, b_true = brute(model, support, x)
    torch.testing.assert_close(A, A_true, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(b, b_true, rtol=1e-10, atol=1e-12)


def test_a_model_that_ignores_its_input():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.relu(torch.ones_like(x))

    x = torch.randn(2, 3, dtype=torch.float64)
    found = linear_map(Constant().eval(), record(Constant().eval(), x), x)
    assert (found.dense()[0] == 0).all()
    assert (found.bias == 1).all()


def test_refusals_by_name():
    model, x = small()
    with pytest.raises(UnholdableError, match=r"max pooling at #\d.*pooling=True"):
        linear_map(model, record(model, x), x)
    support = record(model, x, pooling=True)
    with pytest.raises(SupportMismatchError, match="relu#1"):
        linear_map(model, support.restrict([s for s in support.sites if s.key != "relu#1"]), x)
    model.norm.train()
    with pytest.raises(SettingsError, match=r"norm \(BatchNorm2d\).*eval"):
        linear_map(model, support, x)


@pytest.mark.parametrize(
    "layer",
    [
        nn.LayerNorm(4),
        nn.GroupNorm(2, 4),
        nn.RMSNorm(4),
        nn.BatchNorm1d(4, track_running_stats=False),
    ],
)
def test_normalisation_by_the_input_is_refused(layer):
    model = nn.Sequential(nn.Linear(3, 4), layer, nn.ReLU()).double().eval()
    x = torch.randn(2, 3, dtype=torch.float64)
    with pytest.raises(UnholdableError, match=rf"1 \({type(layer).__name__}\)"):
        linear_map(model, record(model, x, strict=False), x)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda z: F.layer_norm(z, z.shape[1:]),
        lambda z: z * z.sum(1, keepdim=True),
        lambda z: z - z.mean(0),
        lambda z: z * z.detach(),
    ],
)
def test_the_check_finds_what_no_name_gives_away(spoil):
    class Spoilt(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x):
            return spoil(self.relu(x))

    model, x = Spoilt().eval(), torch.randn(4, 3, dtype=torch.float64)
    with pytest.raises(UnholdableError, match="not an affine map"):
        linear_map(model, record(model, x), x)


def test_single_precision():
    model, x = small()
    model, x = model.float(), x.float()
    found = linear_map(model, record(model, x, pooling=True), x)
    torch.testing.assert_close(found.matvec(x) + found.bias, model(x).detach())
