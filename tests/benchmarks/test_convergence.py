"""The convergence benchmark: its grid, its cells, and the arithmetic of its table."""

import json
import math
from argparse import Namespace
from dataclasses import asdict

import pytest

from tests.toy import toy_data, toy_record


@pytest.fixture
def run(script):
    return script("convergence")


@pytest.fixture
def table(script):
    return script("convergence_table")


def options(**changes):
    common = {"model": "allcnn-mini", "batch_size": 40, "ema_decay": 0.9, "device": "cpu"}
    return Namespace(**common | {"augmentation": None, "cpu_seconds": False} | changes)


def result(errors, **values):
    history = [asdict(toy_record(epoch=k, error=e)) | values for k, e in enumerate(errors, 1)]
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
        (["sgd", "muon", "muon long + batch-wise"], "'muon long': add"),
        (["muon long tuned + instance-wise"], "'muon long tuned', 'sgd': add"),
    ):
        with pytest.raises(SystemExit, match=text):
            run.check(Namespace(arms=arms, draw=None))
    whole = ["sgd", "muon", "muon long", "muon long + batch-wise"]
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


def test_rows_of_the_table(table, monkeypatch):
    monkeypatch.setattr(table, "interval", lambda differences: (sum(differences) / 2, 0.1))
    choice = table.Choice(0.1, 0.0, 0.25, 2)
    plain = [result([9.0, 6.0]), result([9.0, 8.0])]
    held = [result([9.0, 7.0]), result([9.0, 9.5])]
    runs = {"sgd": plain, "sgd + instance-wise": held}
    row = table.row_of("sgd + instance-wise", choice, runs, target=8.0)
    assert row["base"] == "sgd"
    assert row["error_by_seed"] == [7.0, 9.5]
    assert row["to_sgd"] == row["to_own_base"]["error"] == (1.25, 0.1)
    assert [hit and hit["epochs"] for hit in row["to_target_by_seed"]] == [2, None]
    line = table.line_of(row)
    assert line.startswith("| sgd + instance-wise | 0.1, 0, 0.25 |")
    assert "(1/2)" in line
    plain_row = table.row_of("sgd", choice, runs, target=8.0)
    assert plain_row["to_sgd"] is None
    assert plain_row["to_own_base"]["error"] is None


def test_arithmetic_of_the_table(table):
    some = result([9.0, 8.0, 7.0])
    assert table.score(some) == 7.0
    assert table.score(some | {"status": "DIVERGED"}) == 90.0
    assert math.isnan(table.last({"history": []}, "error"))
    assert table.plus(None, 2) == "–"
    assert table.plus((0.5, 0.0), 2) == "+0.50 ± 0.00"  # seeds that agree are not no difference
    mean = table.mean_history([result([4.0, 2.0]), result([8.0])])
    assert [record.error for record in mean] == [6.0]


def test_intervals_by_hand(table):
    pytest.importorskip("scipy", reason="Student's t is scipy's")
    mean, half = table.interval([1.0, 2.0, 3.0])
    assert (mean, half) == (2.0, pytest.approx(4.303 / math.sqrt(3), rel=1e-3))
    assert math.isnan(table.interval([1.0])[1])
