"""What is studied on a GPU is what is studied on a CPU."""

import pytest
import torch

import twostroke as ts
from tests.study.networks import inputs, networks
from tests.study.test_distances import SITES, drawn

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("sites", [SITES[:1] + SITES[2:3], SITES], ids=["one plane", "planes"])
def test_distances_and_units(sites):
    support, query = drawn(300, sites), drawn(40, sites, seed=1)
    there, asked = support.to("cuda"), query.to("cuda")
    assert torch.equal(ts.study.hamming(asked, there).cpu(), ts.study.hamming(query, support))
    for one, two in zip(
        ts.study.neighbours(there, asked), ts.study.neighbours(support, query), strict=True
    ):
        assert torch.equal(one.cpu(), two)
    assert ts.study.unique(there).count == ts.study.unique(support).count
    for site in (s for s in sites if s.kind != "max_pool"):
        told = ts.study.entropy(there)[site].cpu()
        torch.testing.assert_close(told, ts.study.entropy(support)[site])
        together = ts.study.coactivation(there, site).cpu()
        assert torch.equal(together, ts.study.coactivation(support, site))


@pytest.mark.parametrize("name", ["conv", "pooled"])
def test_regions(name):
    net, shape = networks()[name]
    a, b, c = inputs(3, shape)
    line = ts.study.line(net, a, b)
    there = [x.cuda() for x in (a, b, c)]
    moved = ts.study.line(net.cuda(), *there[:2])
    torch.testing.assert_close(moved.t.cpu(), line.t, rtol=0, atol=1e-9)
    assert moved.support.to("cpu") == line.support
    assert [s.unit for s in moved.switches] == [s.unit for s in line.switches]
    assert len(ts.study.local_lipschitz(net, there[0][None])) == 1
    if name == "conv":
        wall = ts.study.nearest_wall(net, there[0])
        assert wall.distance == pytest.approx(ts.study.nearest_wall(net.cpu(), a).distance)
        assert len(ts.study.plane(net.cuda(), *there).polygons) > 3
