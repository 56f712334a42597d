"""Distances, neighbours and patterns of packed bits against their references."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twostroke.errors import SettingsError, SupportMismatchError
from twostroke.study import hamming, kernels, neighbours, unique
from twostroke.study.distances import reference_hamming
from twostroke.support import Site, Support
from twostroke.support.bits import pack


@pytest.fixture(params=["kernels", "tensors"])
def way(request, monkeypatch):
    if request.param == "tensors":
        monkeypatch.setattr(kernels, "compiled", lambda: None)
        monkeypatch.setattr("twostroke.study.distances._rows", lambda t: 3)
    elif kernels.compiled() is None:
        pytest.skip("no numba")


def drawn(examples, sites, seed=0, same=0.5):
    """A support of random bits; a share of the examples has the first one's."""
    draw = torch.Generator().manual_seed(seed)
    parts = [
        pack(torch.rand(examples, site.units, generator=draw) < 0.5)
        for site in sites
        for _ in range(site.planes)
    ]
    rows = torch.cat(parts, 1)
    rows[torch.rand(examples, generator=draw) < same] = rows[:1].clone()
    return Support(sites, rows)


SITES = (
    Site("a", 0, "relu", (3, 5)),
    Site("b", 0, "clamp", (7,), 2),
    Site("b", 1, "relu", (130,)),
    Site("c", 0, "max_pool", (2, 3), 4),
)


@settings(max_examples=12, deadline=None)
@given(
    ours=st.integers(0, 9),
    theirs=st.integers(1, 9),
    sites=st.lists(st.sampled_from(SITES), min_size=1, unique=True),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("fast", [True, False])
def test_hamming_is_that_of_unpacked_pieces(fast, ours, theirs, sites, seed):
    with pytest.MonkeyPatch.context() as patch:
        if not fast:
            patch.setattr(kernels, "compiled", lambda: None)
            patch.setattr("twostroke.study.distances._rows", lambda t: 3)
        a, b = drawn(ours, sites, seed), drawn(theirs, sites, seed + 1)
        expected = reference_hamming(a, b)
        assert torch.equal(hamming(a, b), expected)
        assert torch.equal(sum(hamming(a, b, site=s) for s in sites), expected)


def test_hamming_counts_as_drift_does(way):
    support = drawn(6, SITES)
    far = hamming(support)
    assert int(far[0, 3]) == sum(support[0].drift(support[3]).counts.values())
    assert torch.equal(hamming(support[2], support), far[2:3])  # one against many


def test_neighbours_are_the_nearest_and_of_equals_the_first(way):
    support, query = drawn(20, SITES), drawn(7, SITES, seed=1)
    far = reference_hamming(query, support)
    order = torch.argsort(far, dim=1, stable=True)[:, :4]
    found = neighbours(support, query, k=4)
    assert torch.equal(found.indices, order)
    assert torch.equal(found.distances, far.gather(1, order))
    own = neighbours(support, k=19)
    for i in range(20):
        assert sorted([*own.indices[i].tolist(), i]) == list(range(20))
    assert own.distances.dtype == torch.int32


def test_patterns_say_which_examples_are_alike():
    rows = torch.tensor([[1, 2], [3, 2], [1, 2], [1, 7]], dtype=torch.uint8)
    support = Support([Site("a", 0, "relu", (8,)), Site("b", 0, "relu", (8,))], rows)
    found = unique(support)
    assert (found.count, found.group.tolist(), found.sizes.tolist()) == (3, [0, 1, 0, 2], [2, 1, 1])
    assert unique(support, site="a").group.tolist() == [0, 1, 0, 0]
    assert unique(support, site="b#0").sizes.tolist() == [3, 1]


def test_what_cannot_be_compared_is_refused_in_words():
    support = drawn(4, SITES)
    with pytest.raises(SupportMismatchError, match=r"a#0 relu \(3, 5\) against b#0"):
        hamming(support, drawn(4, SITES[1:]))
    shared = Support(SITES, support.rows[:1], shared=True)
    for work in (hamming, unique, neighbours, lambda s: hamming(support, s)):
        with pytest.raises(SupportMismatchError, match="a whole batch shares"):
            work(shared)
    with pytest.raises(SettingsError, match="1 to 3 here, not 4"):
        neighbours(support, k=4)
    with pytest.raises(KeyError, match="choose among"):
        hamming(support, site="nowhere")
