"""Means, spreads and convergence, by hand."""

from dataclasses import asdict

import pytest

from tests.toy import toy_record
from twostroke.reproduction.published import Experiment, Line
from twostroke.reproduction.render import markdown
from twostroke.reproduction.summary import convergence, rows
from twostroke.runs import versions


def run(error, curve=(), status="FINISHED", **numbers):
    history = [asdict(toy_record(epoch=k + 1, error=e, seconds=2.0)) for k, e in enumerate(curve)]
    return {
        "status": status,
        "numbers": {"error": error, **numbers},
        "history": history,
        "seconds": 10.0,
        "parameters": 7,
        "device": "cpu",
        "versions": versions(),
        "identity": {"scale": "short", "settings": {"precision": "fp32", "channels_last": False}},
        "detail": "in epoch 1",
    }


def test_rows_by_hand():
    experiment = Experiment(
        "T",
        (
            Line("other", 5.0, parameters="> 6M"),
            Line("close", 3.0, "t", "sgd"),
            Line("far", 9.0, "t", "sgd"),
            Line("masked", 20.0, "t", "sgd", "mask_at_test"),
            Line("few", 3.0, "t", "instance"),
            Line("none yet", 3.0, "t", "batch"),
        ),
    )
    results = {
        ("t", "sgd"): [run(e, mask_at_test=2 * e) for e in (2.0, 3.0, 4.0)],
        ("t", "instance"): [run(2.0), run(99.0, status="DIVERGED"), run(4.0)],
    }
    other, close, far, masked, few, none = rows(experiment, results)
    assert other.ours is None
    assert other.n == 0
    assert (close.ours, close.spread, close.n, close.difference) == (3.0, 1.0, 3, 0.0)
    assert close.within is True
    assert far.within is False  # 6 away, twice the spread is 2
    assert masked.ours == 6.0
    assert few.ours == 3.0
    assert few.diverged == 1
    assert few.within is None  # two seeds tell nothing
    assert none.ours is None
    other = rows(experiment, results, {"t": "stand-in"})[1]
    assert other.within is None
    assert other.difference == 0.0
    page = markdown(experiment, "short", rows(experiment, results), [], {"t": "toys"}, results)
    assert "| close | 3.00 | 3.00 (1.00) | 3 | +0.00 | yes | 10 |" in page
    assert "| few | 3.00 | 3.00 (1.41), 1 diverged | 2 |" in page
    assert "- t: toys" in page
    assert "about a fifth" in page
    page = markdown(experiment, "short", [other], [], {"t": "toys"}, results)
    assert "| close | 3.00 | 3.00 (1.00) | 3 | +0.00 | stand-in | 10 |" in page


def test_a_seed_that_died_counts_is_told_and_leaves_no_verdict():
    learned = [run(e, (60, 9, e)) for e in (2.0, 3.0)]
    dead, lost = run(90.0, (91, 40, 90)), run(99.0, (80,), status="DIVERGED")
    experiment = Experiment("T", (Line("a", 3.0, "t", "sgd"), Line("b", 3.0, "t", "instance")))
    results = {
        ("t", "sgd"): [*learned, dead],
        ("t", "instance"): [*learned, run(2.5, (60, 2.5)), lost],
    }
    a, b = rows(experiment, results)
    assert (a.n, a.dead, a.diverged, a.within) == (3, 1, 0, None)
    assert a.ours == pytest.approx(95 / 3)
    assert (b.n, b.dead, b.diverged, b.within) == (3, 0, 1, None)
    page = markdown(experiment, "short", [a, b], [], {"t": "toys"}, results)
    assert "31.67 (50.52), 1 at chance | 3 |" in page
    sgd, instance = convergence(results, {"t": ()})
    assert sgd.reached == {2.5: (3, 6.0, 1)}  # of the two that learned; the dead one never
    assert (sgd.n, instance.n) == (3, 4)
    assert instance.reached[2.5] == (2.5, 5.0, 2)


def test_a_target_is_compared_exactly():
    results = {("t", "sgd"): [run(7 / 3, (9, 7 / 3))]}
    (sgd,) = convergence(results, {"t": ()})
    assert sgd.reached == {2.33: (2, 4.0, 1)}


def test_convergence_by_hand():
    results = {
        ("t", "sgd"): [run(4.0, (20, 8, 4)), run(6.0, (20, 10, 6))],  # mean of the last: 5
        ("t", "instance"): [run(5.0, (9, 5, 5)), run(7.0, (20, 9, 7))],
        ("u", "batch"): [run(1.0, (1,))],  # no SGD to compare with
    }
    sgd, instance = convergence(results, {"t": (9.0, 1.0), "u": ()})
    assert (sgd.task, sgd.arm, sgd.epochs, sgd.n) == ("t", "sgd", 3, 2)
    assert sgd.area == pytest.approx((32 / 3 + 36 / 3) / 2)
    assert list(sgd.reached) == [5.0, 9.0, 1.0]
    assert sgd.reached[5.0] == (3, 6.0, 1)
    assert sgd.reached[9.0] == (2.5, 5.0, 2)
    assert instance.reached[5.0] == (2, 4.0, 1)
    assert instance.reached[9.0] == (1.5, 3.0, 2)
    assert instance.reached[1.0] is None


def test_without_an_sgd_that_learned_the_fixed_targets_stay():
    lost = run(99.0, (80, 95), status="DIVERGED")
    results = {("t", "sgd"): [lost], ("t", "instance"): [run(5.0, (9, 5, 5))]}
    (instance,) = convergence(results, {"t": (9.0,)})
    assert instance.reached == {9.0: (1, 2.0, 1)}
