"""`explain`, `rip` and `recover` as a user types them."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import twostroke as ts
from twostroke.cli import theory
from twostroke.reproduction.theory import SCALES, Scale, rebuilding

from .typed import QUICK, run


def test_explain_adds_up_to_the_logit_and_draws(capsys, digits, tmp_path):
    folder, out = tmp_path / "a", tmp_path / "why.png"
    run(capsys, "train", "--data", digits, *QUICK, "--out", folder)
    code, text, _ = run(capsys, "explain", folder, "--index", 3, "--out", out)
    assert code == 0
    values = {
        cells[0]: float(cells[1])
        for line in text.splitlines()
        if len(cells := re.split(r"\s{2,}", line.strip())) == 2 and cells[0] != "part"
    }
    assert values["sum and bias"] == pytest.approx(values["logit of the network"], abs=2e-6)
    whole = values["sum over pixels"] + values["bias part"]
    assert whole == pytest.approx(values["sum and bias"], abs=3e-6)
    assert values["gap"] < 1e-9
    assert out.read_bytes()[:4] == b"\x89PNG"


def test_explain_meets_what_the_run_was_trained_on(capsys, digits, tmp_path):
    folder = tmp_path / "a"
    run(capsys, "train", "--data", digits, "--preprocess", "gcn", *QUICK, "--out", folder)
    code, text, _ = run(capsys, "explain", folder, "--index", 3, "--out", tmp_path / "x.png")
    assert code == 0
    data = ts.data.load(digits, preprocess="gcn")
    net = ts.models.create_model("allcnn-mini", in_channels=1, classes=len(data.classes))
    net.load_state_dict(load_file(folder / "model.safetensors"))
    with torch.no_grad():
        logits = net.double().eval()(data.test.batch(torch.tensor([3]))[0].double())[0]
    assert (
        f"highest logits: {data.classes[int(logits.argmax())]} ({float(logits.max()):.2f})" in text
    )
    file = tmp_path / "seven.png"
    Image.fromarray(np.zeros((6, 6), np.uint8)).save(file)
    code, _, err = run(capsys, "explain", folder, file, "--out", tmp_path / "y.png")
    assert code == 2
    assert "--index 0" in " ".join(err.split())


def test_explain_refuses_what_it_cannot_find(capsys, digits, tmp_path):
    folder = tmp_path / "a"
    run(capsys, "train", "--data", digits, *QUICK, "--out", folder)
    for wrong in (["--index", 999], [tmp_path / "no.png"], ["--index", 1, "--target", "zebra"]):
        code, _, err = run(capsys, "explain", folder, *wrong, "--out", tmp_path / "x.png")
        assert code == 2, wrong
        assert any(str(w) in err.replace("\n", "") for w in wrong)
    for wrong in ([], ["a.png", "--index", 1]):
        code, _, err = run(capsys, "explain", folder, *wrong, "--out", tmp_path / "x.png")
        assert code == 2, wrong
        assert "an image file or --index" in err
    code, _, err = run(capsys, "explain", tmp_path / "no", "--index", 1)
    assert code == 2
    assert "does not exist" in err
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("command", ["rip", "recover"])
def test_a_folder_that_holds_something_is_refused(capsys, tmp_path, command):
    (tmp_path / "kept.txt").write_text("mine")
    code, _, err = run(capsys, command, "--out", tmp_path)
    assert code == 2
    assert str(tmp_path) in err.replace("\n", "")
    assert (tmp_path / "kept.txt").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_recover_does_the_scale_that_is_asked_for(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(rebuilding, "STEPS", 20)
    monkeypatch.setattr(rebuilding, "DESCENT", 4)
    monkeypatch.setitem(SCALES, "smoke", Scale((2,), (3,), 1, 2, ((2, 60),), 40))
    code, text, _ = run(capsys, "recover", "--out", tmp_path / "r")
    assert code == 0
    assert {p.name for p in (tmp_path / "r").iterdir()} == {
        "half_spaces.png",
        "recover.json",
        "recover.md",
        "students.png",
    }
    about = json.loads((tmp_path / "r" / "recover.json").read_text())["about"]
    assert about["command"] == "twostroke recover --scale smoke --seeds 2"
    assert "support unknown, teacher 1" in text  # progress, where no terminal is
    assert "Teacher and student" in text


@pytest.mark.parametrize("command", ["rip", "recover"])
def test_no_draws_are_refused_before_a_folder_is_made(capsys, tmp_path, command):
    code, _, err = run(capsys, command, "--seeds", 0, "--out", tmp_path / "r")
    assert code == 2
    assert "--seeds" in err
    assert not (tmp_path / "r").exists()


def test_a_failed_work_leaves_no_folder_but_what_was_there(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with pytest.raises(KeyboardInterrupt), theory._folder(tmp_path / name, 1):
            raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]
