import math

import pytest

import twostroke as ts
from tests.toy import toy_record
from twostroke.errors import RunFolderError
from twostroke.runs.history import divergence


def test_csv_keeps_every_digit_and_what_is_missing(tmp_path):
    history = ts.History(
        [
            toy_record(lr=1.0 / 3.0, drift=None, loss_held=None),
            toy_record(epoch=2, density=math.pi, error=1e-300),
        ]
    )
    history.save(tmp_path / "m.csv")
    assert ts.History.load(tmp_path / "m.csv").epochs == history.epochs
    assert [p.name for p in tmp_path.iterdir()] == ["m.csv"]


def test_a_column_that_came_later_may_be_missing(tmp_path):
    path = tmp_path / "m.csv"
    ts.History([toy_record()]).save(path)
    path.write_text("\n".join(line.rpartition(",")[0] for line in path.read_text().splitlines()))
    (record,) = ts.History.load(path)
    assert record == toy_record(resting=0)


@pytest.mark.parametrize("text", ["", "epoch,loss\n1,2\n", "nonsense"])
def test_a_file_that_is_no_metrics_is_named(tmp_path, text):
    path = tmp_path / "m.csv"
    path.write_text(text)
    if text == "":
        assert len(ts.History.load(path)) == 0
        return
    if text == "nonsense":
        assert len(ts.History.load(path)) == 0  # a header without lines
        return
    with pytest.raises(RunFolderError, match=r"m\.csv, line 2"):
        ts.History.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RunFolderError, match="no such file"):
        ts.History.load(tmp_path / "m.csv")


def test_seconds_add_up_and_every_status_carries_advice():
    assert ts.History([toy_record(seconds=1.5), toy_record(seconds=2.0)]).seconds == 3.5
    assert all(len(status.value) > 10 for status in ts.Status)
    assert math.isnan(ts.FitResult(ts.Status.INTERRUPTED, None, ts.History()).error)


def test_a_run_has_diverged_by_the_loss_that_it_descends_on():
    begun = ts.History([toy_record(phase="live", round=0, loss_live=2.0)])
    fine = {"loss_train": 1.0, "loss_live": 1.0, "round": 1}

    def told(before=begun, **values):
        return divergence(toy_record(**(fine | values)), before, first=2.3)

    assert told(phase="live") is None
    # batch norm's running statistics lag in evaluation mode: no sign by itself
    assert told(phase="live", loss_live=90.0) is None
    assert "the loss is 12" in told(phase="live", loss_train=12.0)
    assert "undefined" in told(phase="live", loss_live=math.nan)
    assert told(phase="held", loss_live=11.0) is None
    assert "the live loss is 12" in told(phase="held", loss_live=12.0)
    # what it was already when the masks were found has not grown under them
    lagging = ts.History([toy_record(phase="live", round=0, loss_live=90.0)])
    assert told(lagging, phase="held", loss_live=100.0) is None
    assert "more than 5 × 90" in told(lagging, phase="held", loss_live=500.0)
    # within a round, the loss of its beginning counts, not that of its last epoch
    lagging.append(toy_record(phase="held", round=1, loss_live=200.0))
    assert "more than 5 × 90" in told(lagging, phase="held", loss_live=500.0)
    assert told(ts.History(), phase="held", loss_live=11.0) is None
