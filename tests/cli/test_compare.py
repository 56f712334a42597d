"""`twostroke compare` as a user types it; the folders are written without training."""

import pytest

from tests.toy import toy_record
from twostroke.runs import History, RunFolder

from .typed import run


@pytest.fixture
def runs(tmp_path):
    """Two finished runs on the same data, and one on other data."""
    for name, data in (("a", "mnist-12k"), ("b", "mnist-12k"), ("c", "cifar10")):
        folder = RunFolder.create(tmp_path / name, {"data": data})
        folder.save_history(History(toy_record(epoch=k, error=9.0 - k) for k in (1, 2)))
    return tmp_path


def test_a_table_a_picture_and_what_it_took_to_a_target(capsys, runs):
    out = runs / "both.png"
    code, text, _ = run(capsys, "compare", runs / "a", runs / "b", "--out", out, "--targets", 99, 0)
    assert code == 0
    assert "to error %" in text
    assert "steps" in text
    assert "different data" not in text
    assert out.read_bytes()[:4] == b"\x89PNG"
    code, _, err = run(capsys, "compare", runs / "a", "--out", out)
    assert code == 2
    assert "there already" in err


@pytest.mark.filterwarnings("error")
def test_it_names_the_folder_it_is_in_and_tells_of_other_data(capsys, runs, monkeypatch):
    monkeypatch.chdir(runs / "a")
    code, text, _ = run(capsys, "compare", ".", "../c")
    assert code == 0
    assert "│ a " in text
    assert "different data" in text
    assert "a on mnist-12k, c on cifar10" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name at least one run's folder"),
        (["nowhere"], "no such folder"),
        (["a", "--targets", -1], "between 0 and 100"),
        (["a", "--targets", "nan"], "between 0 and 100"),
        (["a", "--targets", 101], "between 0 and 100"),
        (["a", "b/../a"], "more than once"),
        (["a", "--out", "x.txt"], "--out x.txt: a picture's name ends in .png"),
    ],
)
def test_bad_requests_leave_no_picture(capsys, runs, monkeypatch, arguments, message):
    monkeypatch.chdir(runs)
    code, _, err = run(capsys, "compare", *arguments)
    assert code == 2
    assert message in err
    assert not (runs / "curves.png").exists()
