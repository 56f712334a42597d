"""The command `twostroke study`."""

import re

import pytest

from twostroke.cli.main import main
from twostroke.errors import UnholdableError


def call(*words):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert not end.value.code


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a"
    words = (
        f"train --data {digits} --model allcnn-mini --epochs 1 --alternation none --batch-size 40"
    )
    call(*words.split(), "--out", str(out))
    return out


def test_it_draws_and_tells(run, capsys, monkeypatch):
    monkeypatch.setattr("twostroke.cli.study.LINE_WORK", 300_000)
    call("study", str(run), "--examples", "12")
    out = capsys.readouterr().out
    assert "features.2#0" in out
    assert "different patterns of all sites in 12 examples" in " ".join(out.split())
    assert re.search(r"the first \S+ % of the line from example 0 to 1 crosses \d+ regions", out)
    names = {file.name for file in (run / "study").iterdir()}
    assert names == {"layers.png", "neighbours.png", "classes.png", "line.png"}


def test_what_it_refuses(run, digits, capsys, tmp_path):
    for words, why in (
        ((str(run), "--examples", "2"), "at least 3"),
        ((str(run), "--out", str(tmp_path)), "is there already"),
        ((str(tmp_path / "none"),), "does not exist"),
        (
            (str(run), "--data", "mnist-12k", "--out", str(tmp_path / "x")),
            "takes images of 1×12×12",
        ),
    ):
        with pytest.raises(SystemExit) as end:
            main(["study", *words])
        assert end.value.code == 2
        assert why in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_network_that_has_no_lines_is_drawn_without(run, digits, capsys, monkeypatch, tmp_path):
    def refuse(*_):
        raise UnholdableError("it jumps")

    monkeypatch.setattr("twostroke.study.line", refuse)
    out = tmp_path / "other"
    call("study", str(run), "--data", digits, "--examples", "9", "--out", str(out))
    assert "no line: it jumps" in capsys.readouterr().out
    assert len(list(out.iterdir())) == 3
