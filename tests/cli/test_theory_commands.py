"""`explain`, `rip` and `recover` as a user types them."""

import json

import pytest

from .test_cli import QUICK, digits, run  # noqa: F401


def test_explain_adds_up_to_the_logit_and_draws(capsys, digits, tmp_path):  # noqa: F811
    folder, out = tmp_path / "a", tmp_path / "why.png"
    run(capsys, "train", "--data", digits, *QUICK, "--out", folder)
    code, text, _ = run(capsys, "explain", "--run", folder, "--index", 3, "--out", out)
    assert code == 0
    values = {
        cells[0]: float(cells[1])
        for line in text.splitlines()
        if len(cells := [c.strip() for c in line.strip("│").split("│")]) == 2
    }
    assert values["sum and bias"] == pytest.approx(values["logit of the network"], abs=2e-6)
    whole = values["sum over pixels"] + values["bias part"]
    assert whole == pytest.approx(values["sum and bias"], abs=3e-6)
    assert values["gap"] < 1e-9
    assert out.read_bytes()[:4] == b"\x89PNG"


def test_explain_refuses_what_it_cannot_find(capsys, digits, tmp_path):  # noqa: F811
    folder = tmp_path / "a"
    run(capsys, "train", "--data", digits, *QUICK, "--out", folder)
    for wrong in (["--index", 999], [tmp_path / "no.png"], ["--index", 1, "--target", "zebra"]):
        code, _, err = run(capsys, "explain", "--run", folder, *wrong, "--out", tmp_path / "x.png")
        assert code == 2, wrong
        assert any(str(w) in err.replace("\n", "") for w in wrong)
    assert not (tmp_path / "x.png").exists()


def test_rip_tells_that_only_many_gaussian_rows_pass(capsys, tmp_path):
    code, text, _ = run(capsys, "rip", "--seeds", 1, "--out", tmp_path / "r")
    assert code == 0
    assert {p.name for p in (tmp_path / "r").iterdir()} == {"rip.json", "rip.md", "spectra.png"}
    json.loads((tmp_path / "r" / "rip.json").read_text())
    table = (tmp_path / "r" / "rip.md").read_text()
    holds = {line.split("|")[1].strip(): line for line in table.splitlines() if "of 1" in line}
    assert "1 of 1" in holds["Gaussian, m = 80000"]
    assert "0 of 1" in holds["teacher 4-3-2, paths"]
    assert text


@pytest.mark.parametrize("command", ["rip", "recover"])
def test_a_folder_that_holds_something_is_refused(capsys, tmp_path, command):
    (tmp_path / "kept.txt").write_text("mine")
    code, _, err = run(capsys, command, "--out", tmp_path)
    assert code == 2
    assert str(tmp_path) in err.replace("\n", "")
    assert (tmp_path / "kept.txt").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1
