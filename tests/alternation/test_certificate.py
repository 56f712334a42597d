import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

import twostroke as ts
from twostroke.errors import UnholdableError


def net(seed, norm, stride, dilation, pool):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(2, 4, 3, stride, 1, dilation, bias=not norm)]
    layers += [nn.BatchNorm2d(4)] if norm else []
    layers += [nn.ReLU(inplace=True)]
    layers += [nn.MaxPool2d(2), nn.Identity()] if pool else [nn.AvgPool2d(2)] if stride == 1 else []
    layers += [nn.Conv2d(4, 5, 2), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()]
    model = nn.Sequential(*layers).double()
    units = model.eval()(torch.zeros(1, 2, 12, 12, dtype=torch.float64)).shape[1]
    model.extend([nn.Linear(units, 6), nn.ReLU(), nn.Linear(6, 3)]).double()
    if norm:
        model[1].running_mean.normal_()
        model[1].running_var.uniform_(0.2, 3.0)
        nn.init.uniform_(model[1].weight, -2, 2)
    return model


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**20),
    st.booleans(),
    st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2)]),
    st.booleans(),
    st.sampled_from([0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0]),
)
def test_no_unit_changes_sides_that_the_bound_says_stays(seed, norm, geometry, pool, size):
    model = net(seed, norm, *geometry, pool)
    x = torch.randn(5, 2, 12, 12, dtype=torch.float64)
    certificate = ts.DriftCertificate(model, x)
    before = ts.record(model, x)
    assert certificate.sites == list(before.sites)
    with torch.no_grad():
        for p in model.parameters():
            p += size * torch.randn_like(p)
    after = ts.record(model, x)
    reaches = certificate._reaches()
    for site in before.sites:
        changed = (before[site] != after[site]).flatten(2 if len(site.shape) > 1 else 1)
        certain = (reaches[site] > 1).view_as(changed)
        assert not (changed & certain).any()
    drift, bound = before.drift(after), certificate.bound()
    assert drift <= bound
    assert all(drift.by_site[s] <= bound.by_site[s] for s in before.sites)
    if size == 0:
        assert bound == 0


def test_the_bound_is_reached_where_the_change_is_aligned_with_the_input():
    model = nn.Sequential(nn.Linear(3, 1, bias=False), nn.ReLU()).double()
    x = torch.tensor([[1.0, 2.0, 2.0]], dtype=torch.float64)
    with torch.no_grad():
        model[0].weight.copy_(x / 9)  # q = 1
    certificate = ts.DriftCertificate(model, x)
    for share, moves in ((0.99, False), (1.01, True)):
        with torch.no_grad():
            model[0].weight.copy_(x / 9 * (1 - share))
        assert certificate.bound() == moves
        assert ts.record(model, x)["1"].item() is not moves


def test_the_bound_grows_with_the_distance_and_tells_the_sites_apart():
    model = net(3, True, 1, 1, False)
    x = torch.randn(8, 2, 12, 12, dtype=torch.float64)
    certificate = ts.DriftCertificate(model, x)
    first, *_, last = certificate.sites
    shares = []
    step = 1e-4 * torch.randn_like(model[0].weight)
    for _ in range(4):
        with torch.no_grad():
            model[0].weight += step
        shares.append(certificate.bound())
    assert shares == sorted(shares)
    assert 0 < shares[0].by_site[first] < 1
    with torch.no_grad():  # back, and then only above the first site
        model[0].weight -= 4 * step
        model[-3].weight += 1e-3
    assert certificate.bound().by_site[first] < 1e-3
    assert certificate.bound().by_site[last] > 0


def test_calibration_tells_the_drift_it_was_given_and_follows_the_weights():
    model = net(4, False, 1, 1, False)
    x = torch.randn(8, 2, 12, 12, dtype=torch.float64)
    before, certificate = ts.record(model, x), ts.DriftCertificate(model, x)
    steps = [3e-3 * torch.randn_like(p) for p in model.parameters()]

    def move(times):
        with torch.no_grad():
            for p, step in zip(model.parameters(), steps, strict=True):
                p += times * step
        return before.drift(ts.record(model, x))

    drift = move(1)
    assert 0 < drift < certificate.bound()
    certificate.calibrate(drift)
    assert certificate.estimate() == pytest.approx(drift, abs=2e-3)
    assert certificate.estimate() <= move(4)
    assert move(-4.9) < certificate.estimate() + 2e-3 < drift


def test_the_model_is_left_as_it_was():
    model = net(0, True, 1, 1, True).train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    ts.DriftCertificate(model, torch.randn(2, 2, 12, 12, dtype=torch.float64))
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.relu = nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()
        self.second = nn.Conv2d(2, 2, 1)

    def forward(self, x):
        return self.second(self.relu(self.first(x)) + x)


class Between(nn.Module):
    """A function between two layers that changes nothing when the certificate is made."""

    def __init__(self, change, stranger):
        super().__init__()
        self.first, self.relu, self.second = nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1)
        self.change, self.after = change, nn.ReLU()
        self.scale = stranger

    def forward(self, x):
        return self.after(self.second(self.change(self.relu(self.first(x)), self.scale)))


def scaled_input():
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU())
    model.register_parameter("scale", nn.Parameter(torch.ones(())))
    model.forward = lambda x: nn.Sequential.forward(model, x * model.scale)
    return model


ONE, ZERO = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))


@pytest.mark.parametrize(
    ("model", "culprit"),
    [
        (Residual(), "second"),
        (Between(torch.mul, ONE), "'second' does not take"),
        (Between(torch.add, ZERO), "'second' does not take"),
        (Between(torch.Tensor.mul_, ONE), "'scale'"),
        (scaled_input(), "'scale'"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.AvgPool2d(2, divisor_override=1)), "AvgPool2d"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.MaxPool2d(2, dilation=2)), "MaxPool2d"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.GELU()), "GELU"),
        (nn.Sequential(nn.Conv2d(2, 2, 1, groups=2)), "groups"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.MaxPool2d(3, 2)), "MaxPool2d"),
        (nn.Sequential(nn.ReLU()), "weight layer"),
    ],
)
def test_what_it_cannot_follow_is_named(model, culprit):
    with pytest.raises(UnholdableError, match=culprit):
        ts.DriftCertificate(model, torch.randn(2, 2, 6, 6))


def test_what_is_frozen_moves_nothing():
    model = scaled_input()
    model.scale.requires_grad_(False)
    ts.DriftCertificate(model, torch.randn(2, 2, 6, 6))
