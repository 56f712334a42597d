"""`twostroke dsd` as a user types it."""

import importlib
import json
import os
import re
import shutil
import signal
from dataclasses import replace

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from twostroke.cli.dsd import DsdConfig
from twostroke.cli.dsd_tables import layer_table
from twostroke.models import create_model
from twostroke.outcome import Status
from twostroke.sparsity import DenseSparseDenseResult, Magnitude, Sparsity, sparsity

from .typed import run

dsd_module = importlib.import_module("twostroke.cli.dsd")

QUICK = ["--model", "allcnn-mini", "--epochs", 1, 1, 1, "--lrs", 0.05, 0.02, 0.01]
QUICK += ["--batch-size", 40]
FROM_TRAINED = [*QUICK[:2], "--scale", "smoke", "--batch-size", 40]  # no dense phase


@pytest.mark.usefixtures("pages")
def test_a_run_ends_in_a_plain_model_and_a_table(capsys, digits, tmp_path):
    out = tmp_path / "a"
    code, text, _ = run(
        capsys, "dsd", "--data", digits, *QUICK, "--mask", "batch-units", "--out", out
    )
    assert code == 0
    assert "dense again" in text.replace("\n", " ") or "again" in text
    assert "off %" in text
    assert (out / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert "What it gets wrong" in (out / "report.html").read_text()
    create_model("allcnn-mini", in_channels=1, classes=4).load_state_dict(
        load_file(out / "model.safetensors")
    )
    phase = json.loads((out / "phases" / "2-sparse" / "phase.json").read_text())
    assert 0 < phase["units_on"] <= 1
    code, text, _ = run(
        capsys, "dsd", "--data", digits, *FROM_TRAINED, "--weights", out, "--ratio", 0.5,
        "--out", tmp_path / "b",
    )  # fmt: skip
    assert code == 0
    assert "zeros after the sparse phase" in text
    assert re.search(r"50\.0\W+\n", text)
    phase = json.loads((tmp_path / "b" / "phases" / "2-sparse" / "phase.json").read_text())
    assert phase["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert not (tmp_path / "b" / "phases" / "1-dense").exists()


def test_a_stopped_run_goes_on(capsys, digits, tmp_path, monkeypatch):
    from twostroke.cli.progress import RunBars

    after = RunBars.epoch

    def stop(self, record):
        after(self, record)
        if self.name == "sparse":
            os.kill(os.getpid(), signal.SIGTERM)

    out = tmp_path / "a"
    with monkeypatch.context() as patch:
        patch.setattr(RunBars, "epoch", stop)
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
        (["--weights", "nowhere"], "--weights nowhere: nothing is there. Give torchvision"),
        (["--weights", __file__], "is not a file of safetensors"),
        (["--model", "resnt18", "--data", "npz:nowhere.npz"], "no model 'resnt18'; did you mean"),
        (["--model", "resnet81"], "no model 'resnet81'"),
        (["--batch-size", 0], "batch_size is 1 or more"),
        (["--model", "efficientnet_b0", "--mask", "batch-units"], "silu"),
        (["--model", "alexnet"], "does not take images of shape (1, 12, 12)"),
        (["--batch-size", 4000], "larger than the 120 training examples"),
    ],
)
def test_bad_requests_are_one_line_and_leave_nothing(capsys, digits, tmp_path, arguments, message):
    out = tmp_path / "a"
    first = [] if "--model" in arguments else QUICK[:2]
    first += [] if "--batch-size" in arguments else QUICK[-2:]
    code, _, err = run(
        capsys, "dsd", "--data", digits, *first, "--scale", "smoke", *arguments, "--out", out
    )
    assert code == 2
    assert message in err
    assert not out.exists()


def test_weights_of_another_model_are_named(capsys, digits, tmp_path):
    run(capsys, "dsd", "--data", digits, *QUICK, "--out", tmp_path / "a")
    code, _, err = run(
        capsys, "dsd", "--data", digits, "--model", "allcnn-c", "--weights", tmp_path / "a",
        "--out", tmp_path / "b",
    )  # fmt: skip
    assert code == 2
    assert "another model (allcnn-mini): it has no block1.0.weight" in err
    code, _, err = run(capsys, "dsd", "--data", digits)
    assert "--out runs/NAME" in err


def test_an_error_in_mid_run_leaves_a_run_that_goes_on(capsys, digits, tmp_path, monkeypatch):
    from twostroke.cli.progress import RunBars
    from twostroke.errors import DataError

    run(capsys, "dsd", "--data", digits, *QUICK, "--out", tmp_path / "a")

    def fail(*_):
        raise DataError("a picture is gone")

    b = tmp_path / "b"
    with monkeypatch.context() as patch:
        patch.setattr(RunBars, "epoch", fail)
        code, _, err = run(
            capsys, "dsd", "--data", digits, *FROM_TRAINED, "--weights", tmp_path / "a", "--out", b
        )
    assert code == 2
    assert "a picture is gone" in err
    (tmp_path / "a" / "model.safetensors").unlink()  # no longer needed
    assert run(capsys, "dsd", "--resume", b)[0] == 0
    assert not (b / "phases" / "1-dense").exists()


def test_weights_with_a_dense_phase_if_asked_for(capsys, digits, tmp_path):
    run(capsys, "dsd", "--data", digits, *QUICK, "--out", tmp_path / "a")
    b = tmp_path / "b"
    assert (
        run(capsys, "dsd", "--data", digits, *QUICK, "--weights", tmp_path / "a", "--out", b)[0]
        == 0
    )
    assert (b / "phases" / "1-dense" / "phase.json").exists()


def test_weights_of_a_run_that_had_other_images(capsys, digits, tmp_path):
    run(capsys, "dsd", "--data", digits, *QUICK, "--preprocess", "unit", "--out", tmp_path / "a")
    options = ["dsd", *FROM_TRAINED, "--weights", tmp_path / "a" / "phases" / "1-dense"]
    code, _, err = run(capsys, *options, "--data", digits, "--out", tmp_path / "b")
    assert code == 2
    assert (
        "with --preprocess unit, and this one would with --preprocess none: give --preprocess unit"
        in err
    )
    assert not (tmp_path / "b").exists()
    moved = tmp_path / "moved.npz"
    shutil.copy(digits.removeprefix("npz:"), moved)
    options += ["--preprocess", "unit", "--data", f"npz:{moved}"]
    code, text, _ = run(capsys, *options, "--out", tmp_path / "b")
    assert code == 0
    assert f"were trained on {digits}, and this run is on npz:{moved}" in text


def test_published_weights_of_which_a_layer_is_new(capsys, digits, tmp_path, monkeypatch):
    state = torchvision.models.shufflenet_v2_x0_5().state_dict()
    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", lambda self, **_: state)
    options = ["dsd", "--data", digits, "--weights", "torchvision", "--batch-size", 40]
    code, text, _ = run(
        capsys,
        *options,
        "--model",
        "shufflenet_v2_x0_5",
        "--scale",
        "smoke",
        "--out",
        tmp_path / "a",
    )
    assert code == 0
    assert "the first layer (for 1 channels, not 3)" in text
    assert "the last layer (for 4 classes, not 1000); 1 epochs at 0.01 train it first" in text
    assert (tmp_path / "a" / "phases" / "1-dense" / "phase.json").exists()
    code, _, err = run(capsys, *options, "--model", "allcnn-mini", "--out", tmp_path / "b")
    assert code == 2
    assert "allcnn-mini is not one of torchvision's models. Give the folder of a run" in err


def test_phases_of_given_weights():
    plan = DsdConfig(weights="torchvision").plan(fresh=True)
    assert (plan.epochs, plan.lrs) == ((9, 45, 45), (0.01, 0.01, 0.001))
    assert DsdConfig(weights="torchvision").plan(fresh=False).epochs == (0, 45, 45)
    kept = DsdConfig(weights="torchvision", epochs=(0, 1, 1)).plan(fresh=True)
    assert kept.epochs == (0, 1, 1)
    assert DsdConfig().plan(examples=12).batch_size == 12


def test_resume_takes_the_runs_options_and_checks_the_file(capsys, digits, tmp_path):
    a = tmp_path / "a"
    run(capsys, "dsd", "--data", digits, *QUICK, "--out", a)
    code, _, err = run(capsys, "dsd", "--resume", a, "--price", 3)
    assert code == 2
    assert "price = left out, not 3.0: go on with the settings that it was started with" in err
    code, _, err = run(capsys, "dsd", "--resume", a, "--epochs", 1, 1, 2)
    assert code == 2
    assert "epochs = [1, 1, 1], not [1, 1, 2]" in err
    assert run(capsys, "dsd", "--resume", a, *QUICK)[0] == 0  # which are the run's own
    file = a / "config.toml"
    text = file.read_text()
    for change, message in [
        (
            text.replace("\nseed = 0", '\nseed = "zero"'),
            "seed is 'zero', where a whole number is wanted",
        ),
        (
            text.replace('mask = "magnitude"', 'mask = "x"'),
            "mask is 'x', where one of magnitude, batch-connections,",
        ),
        (text.replace("1,", '"1",', 1), "epochs is ['1', 1, 1], where a list of 3, each a whole"),
        (text.replace("\nseed = 0", "\nsede = 0"), "no option 'sede', did you mean 'seed'?"),
        (text.replace('"dsd"', '"train"'), "holds a run of `twostroke train`"),
        (text.replace("command", "comand"), "no option 'comand'"),
    ]:
        file.write_text(change)
        code, _, err = run(capsys, "dsd", "--resume", a)
        assert code == 2
        assert message in err
    file.write_text(text)
    _, _, err = run(capsys, "dsd", "--data", digits, *QUICK, "--out", a)
    assert f"`twostroke dsd --resume {a}`" in err.replace("\n", " ")


def test_a_mask_that_empties_a_layer_keeps_the_dense_phase(capsys, digits, tmp_path):
    a = tmp_path / "a"
    code, _, err = run(
        capsys, "dsd", "--data", digits, *QUICK, "--mask", "batch-connections", "--price", 1e6,
        "--out", a,
    )  # fmt: skip
    assert code == 2
    dense = a / "phases" / "1-dense"
    assert "lower the ratio or the price" in err
    assert f"dsd --weights {dense}` begins with it" in err
    code, _, _ = run(
        capsys, "dsd", "--data", digits, *FROM_TRAINED, "--weights", dense, "--out", tmp_path / "b"
    )
    assert code == 0


def test_stopped_outside_training_and_in_the_first_epoch(capsys, digits, tmp_path, monkeypatch):
    from twostroke.cli.progress import RunBars

    def stop(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)

    for name, (place, attribute) in {
        "masks": (Magnitude, "find"),
        "step": (RunBars, "step"),
        "before": (dsd_module, "dense_sparse_dense"),
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(place, attribute, stop)
            code, text, _ = run(capsys, "dsd", "--data", digits, *QUICK, "--out", tmp_path / name)
        assert code == 130
        assert f"go on with: twostroke dsd --resume {tmp_path / name}" in text
        assert "nan" not in text
    # either command goes on with it
    assert run(capsys, "dsd", "--resume", tmp_path / "before")[0] == 0
    code, text, _ = run(capsys, "dsd", "--data", digits, *QUICK, "--out", tmp_path / "step")
    assert code == 0
    assert "goes on in epoch 1, after 1 of 3 steps" in text.replace("\n", " ")
    first, second = (load_file(tmp_path / n / "model.safetensors") for n in ("before", "step"))
    assert all(torch.equal(first[name], value) for name, value in second.items())
    code, _, err = run(capsys, "train", "--resume", tmp_path / "step")
    assert code == 2
    assert f"go on with it by `twostroke dsd --resume {tmp_path / 'step'}`" in err


def test_many_layers_are_summed_up(tmp_path):
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(15)])
    with torch.no_grad():
        for k, layer in enumerate(model):
            layer.weight.view(-1)[:k] = 0
    found = DenseSparseDenseResult(
        status=Status.FINISHED, model=model, phases=[], sparse_sparsity=sparsity(model)
    )
    shown = layer_table(found, tmp_path)
    assert shown.row_count == 12
    cells = [list(column.cells) for column in shown.columns]
    assert [column[0] for column in cells] == ["14", "16", "87.5"]
    assert [column[-1] for column in cells] == ["4 others", "64", "9.4"]  # (0 + 1 + 2 + 3) / 64
    assert layer_table(replace(found, sparse_sparsity=Sparsity(0)), tmp_path) is None
