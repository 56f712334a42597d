"""Supports over training, and of two runs."""

import pytest
import torch
from torch import nn

import twostroke as ts
from tests.toy import toy_data, toy_net
from twostroke.errors import SettingsError, SupportMismatchError
from twostroke.study import Plane, pictures, tables


@pytest.fixture(scope="module")
def trained():
    net, x = toy_net(), toy_data().test.batch(torch.arange(20))[0]
    probe = ts.study.Probe(net, x, when=lambda epoch: epoch != 2)
    ts.fit(net, toy_data(), epochs=4, batch_size=40, listener=probe, seed=0)
    return net, x, probe


def test_a_probe_hears_of_the_chosen_epochs(trained):
    net, x, probe = trained
    assert list(probe.supports) == [1, 3, 4]
    assert probe.supports[4] == ts.record(net.eval(), x)
    assert probe.drift()[4] == probe.supports[3].drift(probe.supports[4])
    assert list(probe.drift()) == [3, 4]


def test_units_settle_after_their_last_change(trained):
    _, _, probe = trained
    since = probe.settled()["2"]
    one, three, four = (s["2"] for s in probe.supports.values())
    assert torch.equal(since == 4, three != four)
    assert torch.equal(since == 1, (one == three) & (three == four))
    assert 3 in since
    with pytest.raises(SettingsError, match="listener=probe"):
        ts.study.Probe(nn.ReLU(), torch.ones(1)).settled()


def test_matching_finds_units_that_were_only_moved():
    pytest.importorskip("scipy", reason="matching needs the extra study")
    net, x = toy_net(), toy_data().test.batch(torch.arange(30))[0]
    moved, order = toy_net(), torch.tensor([3, 1, 5, 0, 2, 4])
    with torch.no_grad():
        for part in (moved[0].weight, moved[0].bias):
            part.copy_(part[order])
        moved[4].weight.copy_(moved[4].weight[:, order])
    a, b = ts.record(net, x), ts.record(moved, x)
    matched = ts.study.match(a, b)
    assert float(matched.equal) > 0.999
    assert matched.partner["2"].tolist() == torch.argsort(order).tolist()
    assert matched.unmatched.by_site["2"] == pytest.approx(1 - a.drift(b).by_site["2"])
    assert matched.unmatched.by_site["2"] < 0.9
    with pytest.raises(SupportMismatchError, match="30 and of 2 examples"):
        ts.study.match(a, b[:2])


def test_tables_and_pictures_of_training_and_two_runs(trained, tmp_path):
    pytest.importorskip("scipy", reason="matching needs the extra study")
    _, x, probe = trained
    sheet = tables.training(probe, "drift")
    assert [row[0] for row in sheet.rows] == ["2#0", "5#0"]
    assert sheet.rows[0][2] == f"{100 * probe.drift()[4].by_site['2']:.1f}"
    matched = ts.study.match(probe.supports[4], ts.record(toy_net(1), x))
    assert float(tables.two_runs(matched).rows[0][2]) >= float(tables.two_runs(matched).rows[0][1])
    pictures.draw_probe(probe, tmp_path / "probe.png")
    pictures.draw_match(matched, tmp_path / "match.png")
    net = toy_net().double().eval()
    a, b, c = x[:3].double()
    plane = ts.study.plane(net, a, a + 0.1 * (b - a), a + 0.1 * (c - a))
    assert isinstance(plane, Plane)
    pictures.draw_plane(plane, tmp_path / "plane.png")
    assert all(file.stat().st_size > 5000 for file in tmp_path.iterdir())
