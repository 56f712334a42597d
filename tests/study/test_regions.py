"""Lines, planes and walls against dense sampling and explicit matrices."""

import pytest
import torch
from torch import nn

import twostroke as ts
from tests.study.networks import inputs, networks
from twostroke.errors import SettingsError, TooLargeError, UnholdableError

NETWORKS = sorted(networks())
UNPOOLED = [name for name in NETWORKS if "pool" not in name]


def made(name, count=3):
    net, shape = networks()[name]
    return net, inputs(count, shape)


def patterns(net, x):
    return {row.numpy().tobytes() for row in ts.record(net, x, pooling=True).rows}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_line_misses_no_region_that_samples_see(name):
    net, (a, b, _) = made(name)
    line = ts.study.line(net, a, b)
    assert line.regions > 3
    t = torch.linspace(0, 1, 5000, dtype=torch.float64)
    x = (1 - t).view(-1, *[1] * a.ndim) * a + t.view(-1, *[1] * a.ndim) * b
    assert patterns(net, x) <= {row.numpy().tobytes() for row in line.support.rows}
    assert line.t[0] == 0
    assert line.t[-1] == 1
    assert bool((line.t.diff() > 0).all())
    # each sample has the pattern of the region in which it lies, unless it is on a wall
    region = torch.searchsorted(line.t, t, right=True).sub(1).clamp(max=line.regions - 1)
    far = (t[:, None] - line.t).abs().min(1).values > 1e-9
    assert ts.record(net, x[far], pooling=True) == line.support[region[far]]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_held_in_a_region_is_the_network_up_to_its_walls(name):
    net, (a, b, _) = made(name)
    line = ts.study.line(net, a, b)
    for ends in (line.t[:-1], line.t[1:]):
        ends = ends.view(-1, *[1] * a.ndim)
        x = (1 - ends) * a + ends * b
        with torch.no_grad(), ts.hold(net, line.support):
            held = net(x)
        torch.testing.assert_close(held, net(x).detach(), rtol=0, atol=1e-10)


def test_a_line_that_is_kept_in_parts_is_the_same(monkeypatch):
    net, (a, b, _) = made("pooled")
    whole = ts.study.line(net, a, b)
    monkeypatch.setattr("twostroke.study.lines._NUMBERS", 600)
    parts = ts.study.line(net, a, b)
    torch.testing.assert_close(parts.t, whole.t, rtol=0, atol=1e-11)
    assert parts.support == whole.support


def test_switches_say_which_unit_and_where():
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).double().eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        net[0].bias.copy_(torch.tensor([-0.25, 0.75]))
    line = ts.study.line(net, torch.zeros(1).double(), torch.ones(1).double())
    assert [(s.t, s.site.key, s.unit, s.on) for s in line.switches] == [
        (0.25, "1#0", (0,), True),
        (0.75, "1#0", (1,), False),
    ]
    assert line.regions == 3


@pytest.mark.parametrize("name", UNPOOLED)
def test_a_plane_misses_no_region_that_samples_see(name):
    net, (a, b, c) = made(name)
    plane = ts.study.plane(net, a, b, c)
    assert len(plane.polygons) > 3
    draw = torch.Generator().manual_seed(0)
    u, v = torch.rand(2, 3000, *[1] * a.ndim, generator=draw, dtype=torch.float64)
    u, v = torch.where(u + v > 1, 1 - u, u), torch.where(u + v > 1, 1 - v, v)
    found = [row.numpy().tobytes() for row in plane.support.rows]
    assert patterns(net, (1 - u - v) * a + u * b + v * c) <= set(found)
    assert len(set(found)) == len(found)
    # together they are the triangle
    x, y = ([torch.from_numpy(p)[:, k] for p in plane.polygons] for k in (0, 1))
    areas = [
        abs(float((p * q.roll(-1) - p.roll(-1) * q).sum())) / 2 for p, q in zip(x, y, strict=True)
    ]
    assert sum(areas) == pytest.approx(0.5, abs=1e-9)
    with pytest.raises(TooLargeError, match="more than 2 regions"):
        ts.study.plane(net, a, b, c, limit=2)


@pytest.mark.parametrize("name", UNPOOLED)
def test_the_nearest_wall_is_where_the_first_unit_switches(name):
    net, (x, _, _) = made(name)
    wall = ts.study.nearest_wall(net, x)
    assert float((wall.point - x).norm()) == pytest.approx(wall.distance, rel=1e-9)
    near, beyond = (x + s * (wall.point - x) for s in (1 - 1e-6, 1 + 1e-6))
    own = ts.record(net, x[None])
    assert ts.record(net, near[None]) == own
    switched = own.differing(ts.record(net, beyond[None]))
    units = {
        s.key: ts.Support([s], p)[s].nonzero()[:, 1:].tolist()
        for s, p in switched.items()
        if p.any()
    }
    if wall.site.planes == 1:
        assert units == {wall.site.key: [list(wall.unit)]}
    # no direction leaves the region earlier
    draw = torch.Generator().manual_seed(1)
    steps = torch.randn(200, *x.shape, generator=draw, dtype=torch.float64)
    steps /= steps.flatten(1).norm(dim=1).view(-1, *[1] * x.ndim)
    around = ts.record(net, x + 0.999 * wall.distance * steps)
    assert float(own.drift(around[:1])) == 0
    assert bool((around.rows == own.rows).all())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_local_lipschitz_constant_is_the_largest_singular_value(name):
    net, x = made(name, 4)
    A, _ = ts.theory.linear_map(net, ts.record(net, x, pooling=True), x).dense()
    expected = torch.linalg.matrix_norm(A.flatten(2).flatten(1, -2), 2)
    torch.testing.assert_close(ts.study.local_lipschitz(net, x), expected, rtol=1e-8, atol=0)


def test_what_has_no_exact_regions_is_refused_in_words():
    net, (a, b, c) = made("plain")
    with pytest.raises(SettingsError, match="one shape"):
        ts.study.line(net, a, b[:3])
    with pytest.raises(SettingsError, match="float64"):
        ts.study.line(net, a.float(), b.float())
    with pytest.raises(SettingsError, match="no line leads there"):
        ts.study.line(net, a, b / 0)
    with pytest.raises(UnholdableError, match="it is one region"):
        ts.study.line(nn.Linear(6, 2).double(), a, b)
    with pytest.raises(UnholdableError, match="gelu"):
        ts.study.line(nn.Sequential(nn.Linear(6, 2), nn.GELU()).double(), a, b)
    jumps = nn.Sequential(nn.Linear(6, 2), ts.HardThreshold(0.5)).double()
    with pytest.raises(UnholdableError, match=r"1#0 \(threshold\)"):
        ts.study.line(jumps, a, b)
    pooled, (d, e, f) = made("pooled")
    with pytest.raises(UnholdableError, match="max_pool"):
        ts.study.plane(pooled, d, e, f)
    with pytest.raises(SettingsError, match=r"model\.eval"):
        ts.study.line(made("conv")[0].train(), d, e)
    silent = nn.Sequential(nn.Linear(6, 2), nn.ReLU()).double()
    nn.init.zeros_(silent[0].weight)
    with pytest.raises(SettingsError, match="no wall"):
        ts.study.nearest_wall(silent, a)
    with pytest.raises(SettingsError, match="1 steps"):
        ts.study.local_lipschitz(net, torch.stack([a, b, c]), steps=1)
