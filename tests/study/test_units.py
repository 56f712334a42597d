"""What single units do, against unpacked masks."""

import pytest
import torch

import twostroke as ts
from tests.study.test_distances import SITES, drawn
from twostroke.errors import DataError, SettingsError, SupportMismatchError, TooLargeError

UNITS = SITES[:3]


@pytest.fixture(scope="module")
def support():
    return drawn(600, SITES, same=0.1)  # more than a byte counts


@pytest.mark.parametrize("site", UNITS, ids=str)
def test_counts_and_what_follows_from_them(support, site):
    mask = support[site]
    assert torch.equal(ts.study.counts(support)[site.key], mask.sum(0))
    few = support[:3]
    assert torch.equal(ts.study.dead(few)[site], ~few[site].any(0))
    assert torch.equal(ts.study.always_on(few)[site], few[site].all(0))
    assert few[site].all(0).any()
    p = mask.double().mean(0)
    expected = torch.distributions.Bernoulli(p).entropy() / torch.log(torch.tensor(2.0))
    torch.testing.assert_close(ts.study.entropy(support)[site], expected)


def test_a_unit_that_never_switches_tells_nothing(support):
    assert ts.study.entropy(support[:1])["a"].unique().tolist() == [0.0]
    assert "c#0" not in {s.key for s in ts.study.counts(support)}


def test_classes(support):
    labels = torch.arange(600) % 3
    labels[labels == 1] = 0
    shares = ts.study.by_class(support, labels)
    mask = support["a"].double()
    assert shares["a"].shape == (3, 3, 5)
    torch.testing.assert_close(shares["a"][2], mask[labels == 2].mean(0))
    assert bool(shares["a"][1].isnan().all())
    best = ts.study.telling(shares, 0, 2, k=4)
    gaps = torch.cat([(s[0] - s[2]).abs().flatten() for s in shares.values()])
    assert [abs(t.first - t.second) for t in best] == pytest.approx(gaps.topk(4).values.tolist())
    assert float(shares[best[0].site][0][best[0].unit]) == best[0].first
    with pytest.raises(SettingsError, match="class 3"):
        ts.study.telling(shares, 0, 3)
    with pytest.raises(DataError, match="600 images, but 2 labels"):
        ts.study.by_class(support, labels[:2])


def test_coactivation(support):
    for site in UNITS:
        mask = support[site].flatten(1).int()
        assert torch.equal(ts.study.coactivation(support, site), mask.T @ mask)
    with pytest.raises(TooLargeError, match="130 × 130 counts"):
        ts.study.coactivation(support, "b#1", limit_bytes=1000)
    with pytest.raises(SupportMismatchError, match="shares"):
        ts.study.counts(ts.Support(SITES, support.rows[:1], shared=True))
