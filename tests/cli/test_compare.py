"""`twostroke compare` as a user types it; the folders are written without training."""

import pytest

import twostroke.report
from tests.toy import toy_record
from twostroke.runs import History, RunFolder

from .typed import run


@pytest.fixture
def runs(tmp_path):
    """Two finished runs on the same data, and one on other data."""
    for name, data in (("a", "mnist-12k"), ("b", "mnist-12k"), ("c", "cifar10")):
        folder = RunFolder.create(tmp_path / name, {"data": data, "seed": ord(name)})
        folder.save_history(History(toy_record(epoch=k, error=9.0 - k) for k in (1, 2)))
    return tmp_path


def test_a_command_without_a_configuration_beside_another(capsys, tmp_path):
    for command in ("demo", "train"):
        settings = {"command": command, "data": "mnist-12k", "seed": len(command)}
        RunFolder.create(tmp_path / command, settings).save_history(History([toy_record(epoch=1)]))
    code, text, _ = run(
        capsys, "compare", tmp_path / "demo", tmp_path / "train", "--out", tmp_path / "both"
    )
    assert code == 0
    assert "seed" in text


def test_a_table_a_page_and_what_it_took_to_a_target(capsys, runs):
    out = runs / "both"
    out.mkdir()
    (out / "report.html").write_text("from before")
    code, text, _ = run(capsys, "compare", runs / "a", runs / "b", "--out", out, "--targets", 99, 0)
    assert code == 0
    assert "to error %" in text
    assert "steps" in text
    assert "different data" not in text
    assert "seed" in text
    assert f"report: {out / 'report.html'}" in text.replace("\n", "")
    assert {p.name for p in out.iterdir()} == {"curves.png", "report.html"}
    page = (out / "report.html").read_text()
    for told in (
        "best %",
        "to error %",
        "setting that",
        ">seed<",
        ", log scale",
        "2 runs side by side",
    ):
        assert told in page


def test_a_single_run_has_its_own_report_made_again(capsys, runs, monkeypatch):
    monkeypatch.chdir(runs)
    code, text, _ = run(capsys, "compare", "a")
    assert code == 0
    assert "report: a/report.html" in text
    assert "mnist-12k" in (runs / "a" / "report.html").read_text()
    assert (runs / "a" / "curves.png").exists()
    assert not (runs / "twostroke-compare").exists()


@pytest.mark.filterwarnings("error")
def test_it_names_the_folder_it_is_in_and_tells_of_other_data(capsys, runs, monkeypatch):
    monkeypatch.chdir(runs / "a")
    monkeypatch.setattr(twostroke.report, "write_comparison", lambda folder, *runs, **told: folder)
    code, text, _ = run(capsys, "compare", ".", "../c")
    assert code == 0
    assert "\n a " in text
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
        (["a", "b", "--out", "c"], "c holds a run"),
        (["a", "--out", "c/config.toml"], "c/config.toml is a file, and --out is a folder"),
    ],
)
def test_bad_requests_leave_no_report(capsys, runs, monkeypatch, arguments, message):
    monkeypatch.chdir(runs)
    code, _, err = run(capsys, "compare", *arguments)
    assert code == 2
    assert message in err
    assert not list(runs.rglob("report.html"))


def test_a_student_is_tested_on_the_data_of_its_teacher(capsys, runs):
    student = {"command": "distill", "data": "teacher", "teacher": str(runs / "a")}
    for name, config in (("d", student), ("e", student | {"teacher": str(runs / "d")})):
        folder = RunFolder.create(runs / name, config)
        folder.save_history(History([toy_record(epoch=1, error=9.0)]))
    places = [runs / name for name in "ade"]
    code, text, _ = run(capsys, "compare", *places, "--out", runs / "out")
    assert (code, "different data" in text) == (0, False)
    code, text, _ = run(capsys, "compare", *places, runs / "c", "--out", runs / "out")
    assert "\n seed " in text
    assert "\n teacher " not in text  # which only students have
    run(capsys, "compare", runs / "d")
    page = (runs / "d" / "report.html").read_text()
    assert "A student without a test set is measured" in page
    assert "test error" not in page
    assert "e on mnist-12k, c on cifar10" in text
