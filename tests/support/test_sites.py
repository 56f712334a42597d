from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

import twostroke as ts
from twostroke.support import Site

from .helpers import TWICE_KEYS, drawn, images, twice

some_sites = st.builds(
    Site,
    st.text(max_size=8),
    st.integers(0, 9),
    st.sampled_from(["relu", "clamp", "max_pool"]),
    st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple),
    st.integers(1, 7),
)


@drawn
@given(some_sites)
def test_a_site_survives_a_header(site: Site) -> None:
    again = Site.from_json(site.to_json())
    assert again == site
    assert hash(again) == hash(site)


@drawn
@given(some_sites)
def test_sizes_of_a_site(site: Site) -> None:
    assert site.units == math.prod(site.shape)
    assert site.nbytes == site.planes * math.ceil(site.units / 8)


def test_a_site_reads_well() -> None:
    site = Site("layer1.0.relu", 1, "relu", (64, 8, 8))
    assert site.key == "layer1.0.relu#1"
    assert str(site).split() == ["layer1.0.relu#1", "relu", "64×8×8", "4096", "units"]
    assert Site("", 0, "relu", (3,)).key == "#0"


GOOD: dict[str, Any] = {"path": "a", "call": 0, "kind": "relu", "shape": [2, 3], "planes": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"path": 1},
        {"call": -1},
        {"call": 0.0},
        {"call": True},
        {"kind": None},
        {"shape": "23"},
        {"shape": [2, -3]},
        {"shape": [2.0]},
        {"shape": [True]},
        {"shape": [[2]]},
        {"planes": 0},
        {"planes": 65},
        {"planes": True},
        {"planes": "1"},
    ],
)
def test_what_is_no_site_is_refused(change: dict[str, Any]) -> None:
    assert Site.from_json(GOOD) == Site("a", 0, "relu", (2, 3), 1)
    with pytest.raises(ValueError, match="not a site"):
        Site.from_json({**GOOD, **change})


@pytest.mark.parametrize("entry", [None, [], "a", 1, {}, {"path": "a"}])
def test_what_is_no_dictionary_of_a_site_is_refused(entry: object) -> None:
    with pytest.raises(ValueError, match="not a site"):
        Site.from_json(entry)


def test_sites_are_found_in_the_order_of_the_forward_pass() -> None:
    sites = ts.sites(twice(), images())
    assert [s.key for s in sites] == TWICE_KEYS
    assert [s.shape for s in sites] == [(4, 5, 5)] * 4 + [(4,)]
    assert {s.kind for s in sites} == {"relu"}
    assert ts.record(twice(), images()).sites == tuple(sites)
