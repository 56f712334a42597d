"""`twostroke dsd` as a user types it."""

import json
import os
import signal

import pytest
from safetensors.torch import load_file

from tests.cli.test_cli import digits, run  # noqa: F401
from twostroke.models import create_model

QUICK = ["--model", "allcnn-mini", "--epochs", 1, 1, 1, "--lrs", 0.05, 0.02, 0.01]
QUICK += ["--batch-size", 40]


def test_a_run_ends_in_a_plain_model_and_a_table(capsys, digits, tmp_path):  # noqa: F811
    out = tmp_path / "a"
    code, text, _ = run(
        capsys, "dsd", "--data", digits, *QUICK, "--mask", "batch-units", "--out", out
    )
    assert code == 0
    assert "dense again" in text.replace("\n", " ") or "again" in text
    assert "off %" in text
    assert (out / "curves.png").read_bytes()[:4] == b"\x89PNG"
    create_model("allcnn-mini", in_channels=1, classes=4).load_state_dict(
        load_file(out / "model.safetensors")
    )
    phase = json.loads((out / "phases" / "2-sparse" / "phase.json").read_text())
    assert 0 < phase["units_on"] <= 1
    code, text, _ = run(
        capsys, "dsd", "--data", digits, *QUICK, "--weights", out, "--ratio", 0.5,
        "--out", tmp_path / "b",
    )  # fmt: skip
    assert code == 0
    phase = json.loads((tmp_path / "b" / "phases" / "2-sparse" / "phase.json").read_text())
    assert phase["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert not (tmp_path / "b" / "phases" / "1-dense").exists()


def test_a_stopped_run_goes_on(capsys, digits, tmp_path, monkeypatch):  # noqa: F811
    from twostroke.cli.progress import RunBar

    after = RunBar.epoch

    def stop(self, record):
        after(self, record)
        if self.name == "sparse":
            os.kill(os.getpid(), signal.SIGTERM)

    out = tmp_path / "a"
    with monkeypatch.context() as patch:
        patch.setattr(RunBar, "epoch", stop)
        code, text, _ = run(capsys, "dsd", "--data", digits, *QUICK, "--out", out)
    assert code == 130
    assert "dsd --resume" in text
    code, text, _ = run(capsys, "dsd", "--resume", out)
    assert code == 0
    assert (out / "phases" / "3-dense-again" / "phase.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ratio", 0.3, "--mask", "none"], "--ratio belongs to --mask magnitude"),
        (["--price", 0.3], "--price belongs to connections and units"),
        (["--ratio", 1.5], "share of weights to prune"),
        (["--weights", "nowhere"], "nowhere/model.safetensors: there is no such file"),
        (["--model", "resnet81"], "no model 'resnet81'"),
        (["--batch-size", 0], "batch_size is 1 or more"),
        (["--model", "efficientnet_b0", "--mask", "batch-units"], "silu"),
    ],
)
def test_bad_requests_are_one_line_and_leave_nothing(capsys, digits, tmp_path, arguments, message):  # noqa: F811
    out = tmp_path / "a"
    first = [] if "--model" in arguments else QUICK[:2]
    first += [] if "--batch-size" in arguments else QUICK[-2:]
    code, _, err = run(
        capsys, "dsd", "--data", digits, *first, "--scale", "smoke", *arguments, "--out", out
    )
    assert code == 2
    assert message in err
    assert not out.exists()


def test_weights_of_another_model_are_named(capsys, digits, tmp_path):  # noqa: F811
    run(capsys, "dsd", "--data", digits, *QUICK, "--out", tmp_path / "a")
    code, _, err = run(
        capsys, "dsd", "--data", digits, "--model", "allcnn-c", "--weights", tmp_path / "a",
        "--out", tmp_path / "b",
    )  # fmt: skip
    assert code == 2
    assert "another model (allcnn-mini): it has no block1.0.weight" in err
    code, _, err = run(capsys, "dsd", "--data", digits)
    assert "--out runs/NAME" in err


def test_an_error_in_mid_run_leaves_a_run_that_goes_on(capsys, digits, tmp_path, monkeypatch):  # noqa: F811
    from twostroke.cli.progress import RunBar
    from twostroke.errors import DataError

    run(capsys, "dsd", "--data", digits, *QUICK, "--out", tmp_path / "a")

    def fail(*_):
        raise DataError("a picture is gone")

    b = tmp_path / "b"
    with monkeypatch.context() as patch:
        patch.setattr(RunBar, "epoch", fail)
        code, _, err = run(
            capsys, "dsd", "--data", digits, *QUICK[:2], "--epochs", 0, 1, 1, *QUICK[-2:],
            "--weights", tmp_path / "a", "--out", b,
        )  # fmt: skip
    assert code == 2
    assert "a picture is gone" in err
    assert run(capsys, "dsd", "--resume", b)[0] == 0
