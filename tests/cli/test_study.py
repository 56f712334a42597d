"""The command `twostroke study`."""

import pytest

import twostroke as ts
from twostroke.cli.main import main


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
    whole = ts.study.line  # of which a part of the way is enough here
    monkeypatch.setattr(ts.study, "line", lambda net, a, b: whole(net, a, a + 0.02 * (b - a)))
    call("study", str(run), "--examples", "12")
    out = capsys.readouterr().out
    assert "features.2#0" in out
    assert "different patterns of all sites in 12 examples" in " ".join(out.split())
    assert "crosses" in out
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
