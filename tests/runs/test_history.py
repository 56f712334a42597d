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


def test_steps_of_phases_are_added_up_and_held_ones_are_a_share():
    steps = [3, 6, 3, 6, 3]
    history = History(toy_record(epoch=k, steps=n, held_steps=1) for k, n in enumerate(steps, 1))
    assert history.steps == 15
    assert history.held_share == 5 / 15
    assert (History().steps, History().held_share) == (0, 0)


def test_shares_by_site_have_a_file_of_their_own(tmp_path):
    first = toy_record(epoch=1, density_by_site={"a#0": 0.1, "b, c#0": 0.3})
    second = toy_record(
        epoch=2, density_by_site={"a#0": 0.2, "b, c#0": 1 / 3}, drift_by_site={"a#0": 0.01}
    )
    history = History([first, second])
    history.save(tmp_path / "metrics.csv")
    history.save_sites(tmp_path / "sites.csv")
    assert "by_site" not in (tmp_path / "metrics.csv").read_text()
    again = History.load(tmp_path / "metrics.csv")
    again.load_sites(tmp_path / "sites.csv")
    assert again.epochs == history.epochs
    (tmp_path / "sites.csv").write_text("epoch,site,density,drift\n3,a#0,0.1,\n")
    with pytest.raises(RunFolderError, match="not shares by site of this run"):
        again.load_sites(tmp_path / "sites.csv")


def test_metrics_of_before_have_no_held_steps(tmp_path):
    History([toy_record()]).save(tmp_path / "metrics.csv")
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    shorter = "\n".join(line.rpartition(",")[0] for line in lines)
    (tmp_path / "metrics.csv").write_text(shorter + "\n")
    assert History.load(tmp_path / "metrics.csv").column("held_steps") == [0]
