"""The convergence benchmark: its grid, its cells, and the arithmetic of its table."""

import json
import math
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.toy import toy_data, toy_record

FOLDER = Path(__file__).parents[2] / "benchmarks" / "convergence"
MODULES = ("arms", "table", "run")


@pytest.fixture
def run(monkeypatch):
    """The script as a module; its neighbours are imported by their bare names, as when it is run."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import run

    yield run
    for name in MODULES:
        sys.modules.pop(name, None)


def options(**changes):
    common = {"model": "allcnn-mini", "batch_size": 40, "average": 0.9, "device": "cpu"}
    return Namespace(**common | {"augmentation": None, "cpu_seconds": False} | changes)


def result(errors, **values):
    history = [
        asdict(toy_record(epoch=k, error=e, visits=10, resting=0)) | values
        for k, e in enumerate(errors, 1)
    ]
    return {"status": "FINISHED", "history": history}


def test_grids_grow_in_their_own_proportions(run):
    arm = run.Arm(lrs=(0.1, 0.2, 0.4), decays=(5e-4, 2e-3, 5e-3))

    def beside(lr, decay):
        return {(c.lr, c.decay) for c in run.neighbours(arm, run.Choice(lr, decay, 0.25, 3))}

    assert beside(0.2, 2e-3) == {(0.1, 2e-3), (0.4, 2e-3), (0.2, 5e-4), (0.2, 5e-3)}
    assert beside(0.4, 5e-3) == {(0.2, 5e-3), (0.8, 5e-3), (0.4, 2e-3), (0.4, 0.0125)}
    assert beside(0.8, 5e-4) == {(0.4, 5e-4), (1.6, 5e-4), (0.8, 2e-3), (0.8, 1.25e-4)}
    one = run.Arm(lrs=(0.05,), decays=(0.1, 0.3))
    assert {c.lr for c in run.neighbours(one, run.Choice(0.05, 0.3, 0.25, 3))} == {0.05}


def test_arms_come_with_what_they_are_compared_with(run):
    for arms, text in (
        (["sgdd"], "no arm 'sgdd'"),
        (["muon"], "'sgd': add"),
        (["sgd", "muon long"], "'muon': add"),
        (["sgd", "muon", "muon long + running"], "'muon long': add"),
    ):
        with pytest.raises(SystemExit, match=text):
            run.check(Namespace(arms=arms, draw=None))
    whole = ["sgd", "muon", "muon long", "muon long + running"]
    run.check(Namespace(arms=whole, draw=["muon"]))
    with pytest.raises(SystemExit, match="'sgd short' is to be drawn"):
        run.check(Namespace(arms=whole, draw=["sgd short"]))


def test_a_cell_is_trained_once_and_belongs_to_its_settings(run, tmp_path):
    arm, choice = run.Arm(), run.Choice(0.05, 0.0, 0.25, 1)
    data = toy_data()
    first = run.cell(options(), tmp_path, "sgd", arm, data, choice, 0)
    assert first["status"] == "FINISHED"
    (file,) = tmp_path.glob("*.json")
    written = file.stat().st_mtime_ns
    assert run.cell(options(), tmp_path, "sgd", arm, data, choice, 0) == first
    assert file.stat().st_mtime_ns == written
    with pytest.raises(SystemExit, match="has batch_size 40, not 20: use another --out"):
        run.cell(options(batch_size=20), tmp_path, "sgd", arm, data, choice, 0)
    file.write_text(json.dumps({k: v for k, v in first.items() if k != "settings"}))
    with pytest.raises(SystemExit, match="has data None, not"):
        run.cell(options(), tmp_path, "sgd", arm, data, choice, 0)


def test_arithmetic_of_the_table(run):
    table = sys.modules["table"]
    costs = [100, 60]
    some = result([9.0, 8.0, 7.0])
    some["history"][2]["resting"] = 1
    assert table.saved(some, costs) == pytest.approx(1 - 260 / 300)
    assert math.isnan(table.saved({"status": "DIVERGED", "history": []}, costs))
    assert table.score(some) == 7.0
    assert table.score(some | {"status": "DIVERGED"}) == 90.0
    assert table.plus(None, 2) == "–"
    assert table.plus((0.5, 0.0), 2) == "+0.50 ± 0.00"  # seeds that agree are not no difference
    assert table.base_of("muon long + running") == "muon long"
    mean = table.mean_history([result([4.0, 2.0]), result([8.0])])
    assert [record.error for record in mean] == [6.0]


def test_intervals_by_hand(run):
    pytest.importorskip("scipy", reason="Student's t is scipy's")
    interval = sys.modules["table"].interval
    mean, half = interval([1.0, 2.0, 3.0])
    assert (mean, half) == (2.0, pytest.approx(4.303 / math.sqrt(3), rel=1e-3))
    assert math.isnan(interval([1.0])[1])
