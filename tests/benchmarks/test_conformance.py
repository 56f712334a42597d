"""Whole nets of torchvision and timm: held exactly, or refused, as the committed table says."""

from pathlib import Path

import pytest

TABLE = Path(__file__).parents[2] / "benchmarks" / "results" / "conformance" / "nets.txt"


def test_one_net_of_the_table(script):
    row = script("conformance").measure("timm test_resnet")
    assert (row["outcome"], row["sites"]) == ("exact", {"relu": 12, "max_pool": 1})


@pytest.mark.nightly
def test_every_net_is_as_the_table_says(script):
    zoo = script("conformance")
    for line in TABLE.read_text().splitlines():
        name, _, told = line.partition(": ")
        assert zoo.measure(name)["outcome"] == told.partition(",")[0], name
