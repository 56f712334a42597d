import math

import pytest

from tests.toy import toy_record
from twostroke.errors import RunFolderError
from twostroke.runs import History


def test_csv_keeps_every_digit_and_what_is_missing(tmp_path):
    history = History(
        [
            toy_record(lr=1.0 / 3.0, drift=None, loss_held=None),
            toy_record(epoch=2, density=math.pi, error=1e-300),
        ]
    )
    history.save(tmp_path / "m.csv")
    assert History.load(tmp_path / "m.csv").epochs == history.epochs
    assert [p.name for p in tmp_path.iterdir()] == ["m.csv"]


@pytest.mark.parametrize("text", ["", "epoch,loss\n1,2\n", "nonsense"])
def test_a_file_that_is_no_metrics_is_named(tmp_path, text):
    path = tmp_path / "m.csv"
    path.write_text(text)
    if text == "":
        assert len(History.load(path)) == 0
        return
    if text == "nonsense":
        assert len(History.load(path)) == 0  # a header without lines
        return
    with pytest.raises(RunFolderError, match=r"m\.csv, line 2"):
        History.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RunFolderError, match="no such file"):
        History.load(tmp_path / "m.csv")


def test_seconds_add_up():
    assert History([toy_record(seconds=1.5), toy_record(seconds=2.0)]).seconds == 3.5
