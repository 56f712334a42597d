"""What the benchmarks share: turns, cells that are kept, and the file of figures."""

import argparse
import json
from itertools import count

import pytest

from tests.toy import toy_data


@pytest.fixture
def common(script):
    return script("common")


def test_ratios_are_formed_turn_by_turn(common):
    done = []
    # the machine is slower from turn to turn; the second variant always takes twice as long
    speed = iter([1.0, 1.0, 5.0, 5.0, 7.0, 7.0])
    cost = {"one": 1.0, "two": 2.0}
    works = {name: lambda name=name: done.append(name) for name in cost}

    def clock(work):
        work()
        return next(speed) * cost[done[-1]]

    result = common.paired(works, 3, clock)
    assert result["two"]["ratio_q1"] == result["two"]["ratio"] == result["two"]["ratio_q3"] == 2.0
    assert result["one"]["median_ms"] == 5000.0
    assert done == ["one", "one", "two", "two", "two", "one", "one", "two", "two", "one"]


def test_cells_are_made_once(common, tmp_path):
    calls = count(1)
    file = tmp_path / "cell.json"
    for _ in range(2):
        assert common.kept_cell(file, lambda: {"call": next(calls)}) == {"call": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["cell.json"]


def test_figures_come_with_versions_and_options(common, tmp_path):
    options = argparse.Namespace(out=tmp_path / "new" / "a.json", folder=tmp_path, turns=3)
    common.write(None, options, rows=[])
    common.write(options.out, options, rows=[1])
    document = json.loads(options.out.read_text())
    assert document["options"] == {"folder": str(tmp_path), "turns": 3}
    assert document["rows"] == [1]
    assert {"torch", "command", "gpu"} <= set(document["versions"])


def test_the_first_examples(common):
    data = toy_data()
    few = common.first_examples(data, 30, 20)
    assert (len(few.train), len(few.test)) == (30, 20)
    assert len(common.first_examples(data, 30).test) == len(data.test)
    assert few.note.startswith("the first 30 training images of")
    assert few.classes == data.classes


def test_means_with_their_spread(common):
    assert common.mean_sd([1.0, 3.0]) == "2.00 (1.41)"
    assert common.mean_sd([1.0]) == "1.00"
