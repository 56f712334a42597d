from __future__ import annotations

import copy
import pickle
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor

from twostroke.errors import SupportMismatchError
from twostroke.support import Share, Site, Support

from .helpers import drawn, planes_of, random_masks, support_of

SITES = [
    Site("a", 0, "relu", (3, 3)),
    Site("a", 1, "leaky_relu", (16,)),
    Site("b.c", 0, "clamp", (2, 5), 2),
    Site("pool", 0, "max_pool", (2, 2), 4),
    Site("", 0, "relu", (1,)),
    Site("empty", 0, "relu", (0, 2)),
]


def made(examples: int = 5, seed: int = 0) -> tuple[Support, dict[Site, list[Tensor]]]:
    masks = random_masks(SITES, examples, seed=seed)
    return support_of(masks), masks


def same_masks(support: Support, masks: dict[Site, list[Tensor]]) -> bool:
    return list(support.sites) == list(masks) and all(
        torch.equal(support[site], planes[0]) for site, planes in masks.items()
    )


# -- looking in ------------------------------------------------------------------------------------


def test_masks_by_site_key_and_path() -> None:
    support, masks = made()
    assert same_masks(support, masks)
    for site in SITES:
        assert torch.equal(support[site.key], masks[site][0])
        assert support[site].shape == (5, *site.shape)
        assert support[site].dtype == torch.bool
    assert torch.equal(support["b.c"], masks[SITES[2]][0])
    assert torch.equal(support[""], masks[SITES[4]][0])


def test_an_unknown_site_is_named_with_those_that_are_known() -> None:
    support, _ = made()
    with pytest.raises(KeyError, match="is the path of several sites: choose among a#0, a#1"):
        support["a"]
    with pytest.raises(KeyError, match=r"'d' is no site.*a#0, a#1, b\.c#0"):
        support["d"]
    with pytest.raises(KeyError):
        support[Site("a", 2, "relu", (3, 3))]


def test_pieces_are_the_planes_read_as_numbers() -> None:
    support, masks = made()
    for site, planes in masks.items():
        expected = sum(plane.long() * 2**k for k, plane in enumerate(planes))
        assert torch.equal(support.pieces(site), expected)
        assert support.pieces(site.key).dtype == torch.int64
    index = torch.arange(20).view(5, 2, 2) % 16
    only = support_of({SITES[3]: planes_of(index, 4)})
    assert torch.equal(only.pieces("pool"), index)


def test_sizes() -> None:
    support, _ = made()
    bytes_ = 2 + 2 + 2 * 2 + 4 * 1 + 1 + 0
    assert (len(support), support.nbytes) == (5, 5 * bytes_)
    assert support.rows.shape == (5, bytes_)
    assert support.device == torch.device("cpu")
    assert repr(support) == f"<Support of 5 examples, 6 sites, {5 * bytes_} bytes>"
    assert "shared by a batch" in repr(Support(SITES, support.rows[:1], shared=True))


# -- some of the examples --------------------------------------------------------------------------

INDICES: list[Any] = [
    [3],
    [4, 0, 0, -1],
    [],
    slice(1, 4),
    slice(None, None, 2),
    slice(3, 3),
    torch.tensor([2, 2, 4]),
    torch.tensor([True, False, True, False, False]),
    np.array([1, 3]),
    torch.tensor([], dtype=torch.int64),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indexing_by_examples(index: Any) -> None:
    support, masks = made()
    part = support[index]
    assert isinstance(part, Support)
    where = torch.arange(5)[index]
    assert len(part) == len(where)
    assert same_masks(part, {site: [m[where] for m in planes] for site, planes in masks.items()})


@pytest.mark.parametrize("index", [3, -1, np.int64(3), torch.tensor(3), np.int64(-2)])
def test_indexing_by_one_example_keeps_it_a_support(index: Any) -> None:
    support, _ = made()
    assert support[index] == support[[int(index)]]
    assert len(support[index]) == 1


@pytest.mark.parametrize("index", [5, -6, [5], torch.tensor([-6]), np.int64(5)])
def test_an_example_that_is_not_there(index: Any) -> None:
    with pytest.raises(IndexError):
        made()[0][index]


def test_going_through_the_examples() -> None:
    support, _ = made()
    parts = list(support)
    assert [len(part) for part in parts] == [1] * 5
    assert Support.cat(parts) == support


def test_a_part_may_be_changed_without_the_whole() -> None:
    support, masks = made()
    support[[0]].rows.zero_()
    assert same_masks(support, masks)


@drawn
@given(st.lists(st.integers(0, 4), max_size=4), st.integers(0, 100))
def test_concatenation_is_of_examples_in_turn(counts: list[int], seed: int) -> None:
    parts = [made(n, seed + i) for i, n in enumerate(counts)]
    if not parts:
        with pytest.raises(SupportMismatchError):
            Support.cat([])
        return
    joined = Support.cat([support for support, _ in parts])
    assert len(joined) == sum(counts)
    together = {
        s: [torch.cat(m) for m in zip(*[p[s] for _, p in parts], strict=True)] for s in SITES
    }
    assert same_masks(joined, together)


def test_what_cannot_be_concatenated() -> None:
    support, masks = made(2)
    shared = Support(SITES, support.rows[:1], shared=True)
    for pair in ([support, shared], [shared, support], [shared]):
        with pytest.raises(SupportMismatchError, match="shared"):
            Support.cat(pair)
    fewer = support_of({s: m for s, m in masks.items() if s.path != "b.c"})
    with pytest.raises(SupportMismatchError, match=r"b\.c#0 clamp \(2, 5\) against pool#0"):
        Support.cat([support, fewer])
    with pytest.raises(SupportMismatchError, match="6 sites against 5"):
        Support.cat([support, support.restrict(SITES[:5])])


def test_a_shared_support_stays_shared_where_it_stays_whole() -> None:
    shared = Support(SITES, made(1)[0].rows, shared=True)
    assert shared[0].shared
    assert shared.to("cpu").shared
    assert shared.restrict(["pool"]).shared
    assert not shared[[0, 0, 0]].shared
    assert shared[0] == shared
    assert shared != shared[[0, 0]]
    assert shared != Support(SITES, shared.rows)


# -- some of the sites -----------------------------------------------------------------------------


def test_restricting_to_some_sites_keeps_their_order() -> None:
    support, masks = made()
    part = support.restrict(["pool", SITES[0], "a#1"])
    assert part.sites == (SITES[0], SITES[1], SITES[3])
    assert same_masks(part, {s: masks[s] for s in part.sites})
    assert torch.equal(part.pieces("pool"), support.pieces("pool"))
    nothing = support.restrict([])
    assert (nothing.sites, len(nothing), nothing.nbytes) == ((), 5, 0)
    with pytest.raises(KeyError):
        support.restrict(["nowhere"])
    with pytest.raises(KeyError, match="several"):
        support.restrict(["a"])


# -- numbers about it ------------------------------------------------------------------------------


def test_density_is_the_share_of_units_that_are_on() -> None:
    support, masks = made()
    density = support.density()
    counted = {s: m[0] for s, m in masks.items() if s.kind != "max_pool"}
    assert list(density.by_site) == list(counted)
    for site, mask in counted.items():
        expected = float(mask.double().mean()) if mask.numel() else 0.0
        assert density.by_site[site] == pytest.approx(expected)
    together = torch.cat([m.flatten() for m in counted.values()]).double()
    assert density == pytest.approx(float(together.mean()))


def test_drift_is_the_share_of_units_that_differ() -> None:
    one, masks = made(seed=1)
    two, others = made(seed=2)
    drift = one.drift(two)
    differing = {s: one.pieces(s) != two.pieces(s) for s in SITES}
    for site, differs in differing.items():
        expected = float(differs.double().mean()) if differs.numel() else 0.0
        assert drift.by_site[site] == pytest.approx(expected)
    together = torch.cat([d.flatten() for d in differing.values()]).double()
    assert drift == pytest.approx(float(together.mean()))
    assert drift == two.drift(one)
    assert one.drift(one) == 0
    assert masks.keys() == others.keys()


def test_drift_of_two_planes_counts_a_unit_once() -> None:
    site = SITES[2]
    low, high = torch.zeros(1, 2, 5, dtype=torch.bool), torch.ones(1, 2, 5, dtype=torch.bool)
    linear, top = support_of({site: [high, low]}), support_of({site: [low, high]})
    assert linear.drift(top) == 1


def test_drift_of_a_shared_support_is_against_every_example() -> None:
    support, _ = made()
    shared = Support(SITES, support.rows[:1], shared=True)
    expected = support[[0] * 5].drift(support)
    assert shared.drift(support) == expected
    assert support.drift(shared) == expected
    assert shared.drift(support).by_site == expected.by_site


def test_what_has_no_drift() -> None:
    support, _ = made()
    with pytest.raises(SupportMismatchError, match="5 and of 3 examples"):
        support.drift(support[:3])
    with pytest.raises(SupportMismatchError, match="5 and of 1 examples"):
        support.drift(support[:1])
    with pytest.raises(SupportMismatchError, match="sites"):
        support.drift(support.restrict(SITES[:2]))


def test_shares_of_nothing_are_zero() -> None:
    nothing, _ = made(0)
    assert nothing.density() == 0
    assert nothing.drift(nothing) == 0
    assert nothing.restrict([]).density() == 0
    assert nothing["a#0"].shape == (0, 3, 3)
    assert nothing.pieces("pool").shape == (0, 2, 2)


def test_a_share_is_a_number_with_details() -> None:
    share = made()[0].density()
    assert isinstance(share, float)
    for again in (pickle.loads(pickle.dumps(share)), copy.deepcopy(share)):
        assert isinstance(again, Share)
        assert (again, again.by_site) == (share, share.by_site)


# -- equality, copies, devices ---------------------------------------------------------------------


def test_equality() -> None:
    support, _ = made()
    assert support == made()[0]
    assert support != made(seed=1)[0]
    assert support != support[:4]
    assert support != support.restrict(SITES[:2])
    assert support != "support"
    with pytest.raises(TypeError, match="unhashable"):
        hash(support)


def test_copies() -> None:
    support, masks = made()
    for again in (copy.deepcopy(support), pickle.loads(pickle.dumps(support)), support.to("cpu")):
        assert again == support
        assert same_masks(again, masks)
    deep = copy.deepcopy(support)
    deep.rows.zero_()
    assert deep != support


def test_another_device() -> None:
    support, _ = made()
    there = support.to("meta")
    assert there.device.type == "meta"
    assert (there.sites, there.rows.shape) == (support.sites, support.rows.shape)


def test_rows_that_do_not_fit() -> None:
    rows = made()[0].rows
    for wrong in (rows[:, :-1], rows[0], rows.float(), rows.to(torch.int8)):
        with pytest.raises(SupportMismatchError, match="do not fit sites of 13 bytes"):
            Support(SITES, wrong)
    with pytest.raises(SupportMismatchError, match="one row, not 5"):
        Support(SITES, rows, shared=True)
