"""`twostroke train` as a user types it, errors and stops included."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import tomllib

import pytest
from safetensors.torch import load_file

from tests.processes.several import interruptible
from tests.training.faults import in_a_child
from twostroke.cli import main
from twostroke.cli.progress import RunBars
from twostroke.runs import History, RunFolder

from .typed import QUICK, run, words


def same_weights(a, b):
    first, second = (load_file(folder / "model.safetensors") for folder in (a, b))
    return all((first[name] == second[name]).all() for name in first)


KINDS = {"none": [], "instance": ["--instance.warmup", 1], "batch": ["--batch.warmup", 1]}


@pytest.mark.parametrize("kind", KINDS)
def test_train_fills_a_folder_that_repeats_the_run(capsys, digits, tmp_path, kind):
    a, b = tmp_path / "a", tmp_path / "b"
    options = ["--data", digits, "--alternation", kind, *KINDS[kind], *QUICK, "--out", a]
    code, out, _ = run(capsys, "train", *options)
    assert code == 0
    assert "finished: All epochs were run." in out
    assert f"everything is in {a}" in out
    names = {p.name for p in a.iterdir()}
    assert names >= {
        "config.toml",
        "metrics.csv",
        "model.safetensors",
        "answers.safetensors",
        "sites.csv",
        "versions.json",
        "checkpoint.safetensors",
    }
    assert json.loads((a / "versions.json").read_text())["torch"]
    config = tomllib.loads((a / "config.toml").read_text())
    assert (config["command"], config["alternation"], config["epochs"]) == ("train", kind, 2)
    phases = History.load(a / "metrics.csv").column("phase")
    assert phases == ["live", "live" if kind == "none" else "held"]
    code, _, _ = run(capsys, "train", "--config", a / "config.toml", "--out", b)
    assert code == 0
    assert same_weights(a, b)


@pytest.mark.usefixtures("pages")
def test_the_average_of_the_weights_is_kept_beside_them(capsys, digits, tmp_path):
    options = ["--data", digits, *QUICK, "--ema-decay", 0.9, "--max-grad-norm", 5]
    assert run(capsys, "train", *options, "--out", tmp_path / "a")[0] == 0
    model, mean = (load_file(tmp_path / "a" / f"{n}.safetensors") for n in ("model", "average"))
    assert model.keys() == mean.keys()
    assert any((model[name] != mean[name]).any() for name in model)
    page = (tmp_path / "a" / "report.html").read_text()
    assert f"allcnn-mini on {digits}" in page
    assert "test, average of the weights" in page
    assert "of 120 test examples" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "alcnn-c"], "allcnn-c"),
        (["--model", "alcnn-c", "--data", "nowhere"], "no model 'alcnn-c'"),
        (["--data", "mnist-21k"], "mnist-12k"),
        (["--data", "npz:nowhere.npz"], "nowhere.npz"),
        (["--data", "folder:nowhere"], "nowhere"),
        (["--batch-size", "5000"], "larger than the 120"),
        (["--lr", "-1"], "learning rate"),
        (["--device", "cuda:9"], "cuda:9"),
        (["--schedule", "one-cycel"], "one-cycle"),
        (["--optimizer", "moun"], "did you mean 'muon'?"),
        (["--instance.gap", "3"], "belong to --alternation instance"),
        (["--augmentation", "flipshift"], "flip-shift"),
        (["--resume", "nowhere"], "nowhere"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--track", "tensorbord"], "did you mean 'tensorboard'?"),
    ],
)
def test_bad_input_names_culprit_and_fix_and_leaves_no_folder(
    capsys, digits, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    named = {"--data", "--resume", "--config"} & set(arguments)
    base = [] if named else ["--data", digits]
    out = [] if arguments[0] == "--resume" else ["--out", "a"]
    code, _, err = run(capsys, "train", *base, *out, *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") <= 3
    assert not (tmp_path / "a").exists()


def test_a_folder_that_holds_a_run_is_not_overwritten(capsys, digits, tmp_path):
    a = tmp_path / "a"
    run(capsys, "train", "--data", digits, *QUICK, "--out", a)
    before = {p.name: p.read_bytes() for p in a.iterdir()}
    code, _, err = run(capsys, "train", "--data", digits, *QUICK, "--out", a)
    assert code == 2
    assert "already holds something" in err
    assert f"`twostroke train --resume {a}`" in err
    assert before == {p.name: p.read_bytes() for p in a.iterdir()}


def test_a_run_that_diverges_is_kept_and_exit_code_1(capsys, digits, tmp_path):
    a = tmp_path / "a"
    options = ["--data", digits, *QUICK[:-1], 1e6, "--schedule", "constant"]
    code, out, _ = run(capsys, "train", *options, "--out", a)
    assert code == 1
    assert "diverged (in epoch 1" in out
    assert "Lower the learning rate (lr)" in out
    assert "no epoch was completed" in out
    assert (a / "model.safetensors").exists()


STORED = ["--alternation", "instance", "--instance.warmup", 0, "--instance.gap", 1]
STORED += ["--instance.store", "file"]


def test_masks_in_a_file_of_the_runs_folder(capsys, digits, tmp_path):
    for store in ("auto", "file"):
        options = [*STORED[:-1], store, "--epochs", 1, "--batch-size", 40]
        code, out, _ = run(capsys, "train", "--data", digits, *options, "--out", tmp_path / store)
        assert code == 0
        kept = {"auto": "masks are kept in host memory", "file": "masks are kept in a file"}
        assert out.count(kept[store]) == 1
    assert (tmp_path / "file" / "support-1.store").exists()
    assert same_weights(tmp_path / "auto", tmp_path / "file")


def test_resume_goes_on_and_tells_where_from(capsys, digits, tmp_path, monkeypatch):
    a, whole = tmp_path / "a", tmp_path / "whole"
    options = ["--data", digits, *KINDS["instance"], "--alternation", "instance", *QUICK]
    run(capsys, "train", *options, "--out", whole)

    def stop(self, record):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunBars, "epoch", stop)
        code, out, _ = run(capsys, "train", *options, "--out", a)
    assert code == 130
    assert f"go on with: twostroke train --resume {a}" in out
    code, _, err = run(capsys, "train", "--resume", a, "--instance.gap", 7)
    assert code == 2
    assert "instance.gap = 2, not 7: that may change where a run has diverged" in err
    code, out, _ = run(capsys, "train", "--resume", a, *options)  # which are the run's own
    assert code == 0
    assert "1 of 2 epochs done before" in out.replace("\n", " ")
    assert same_weights(a, whole)


def test_a_run_killed_before_its_first_checkpoint_begins_again(capsys, digits, tmp_path):
    folder, whole = tmp_path / "a", tmp_path / "whole"
    options = ["--data", digits, *STORED, "--epochs", 1, "--batch-size", 40]
    run(capsys, "train", *options, "--out", whole)
    run(capsys, "train", *options, "--out", folder)
    for name in ("checkpoint.safetensors", "metrics.csv", "model.safetensors"):
        (folder / name).unlink()
    assert (folder / "support-1.store").exists()  # of which no checkpoint knows
    code, out, _ = run(capsys, "train", "--resume", folder)
    assert code == 0
    assert "1 epoch" in out
    assert "done before" not in out
    assert same_weights(folder, whole)
    # but not one that was whole, and has lost its checkpoint since
    (folder / "checkpoint.safetensors").unlink()
    code, _, err = run(capsys, "train", "--resume", folder)
    assert code == 2
    assert "no checkpoint" in err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the limit is set in a forked process")
def test_a_full_disk_is_one_line_and_exit_code_2(digits, tmp_path):
    resource = pytest.importorskip("resource")

    def cramped():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        given = ["train", "--data", digits, *STORED, *QUICK, "--out", tmp_path / "a"]
        with (tmp_path / "said").open("w") as said, contextlib.redirect_stderr(said):
            with pytest.raises(SystemExit) as stop:
                main([str(a) for a in given])
            assert stop.value.code == 2

    assert in_a_child(cramped) == 0
    text = (tmp_path / "said").read_text()
    assert text.count("\n") == 1
    assert "support-1.store could not be written (File too large)" in text
    assert "free 0.1 MB there" in text
    assert not (tmp_path / "a").exists()  # nothing was done yet


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_program_says_how_to_go_on(digits, tmp_path, sent):
    folder = tmp_path / "a"
    options = ["--data", digits, "--epochs", "400", "--batch-size", "40", "--lr", "0.01"]
    program = subprocess.Popen(
        [sys.executable, "-m", "twostroke", "train", *options, "--out", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=interruptible,
    )
    for _ in range(600):
        if (folder / "checkpoint.safetensors").exists() or program.poll() is not None:
            break
        time.sleep(0.1)
    program.send_signal(sent)
    out, _ = program.communicate(timeout=180)
    assert program.returncode == 130, out
    assert f"go on with: twostroke train --resume {folder}" in out
    assert 1 <= len(History.load(folder / "metrics.csv")) < 400
    assert "epochs = 400" in (folder / "config.toml").read_text()


def test_stopped_in_the_first_epoch_it_goes_on_by_either_command(
    capsys, digits, tmp_path, monkeypatch
):
    """From the step where it was stopped, by a real signal within it."""
    options = ["train", "--data", digits, *QUICK]
    assert run(capsys, *options, "--out", tmp_path / "whole")[0] == 0
    for name, sent in {"resumed": signal.SIGTERM, "same command": signal.SIGINT}.items():
        out = tmp_path / name
        with monkeypatch.context() as patched:
            patched.setattr(RunBars, "step", signalled(sent))
            code, said, _ = run(capsys, *options, "--out", out)
        assert code == 130
        assert "of which 2 of 3 steps are kept" in words(said)
        assert f"twostroke train --resume {out}" in said.replace("\n", "")
        again = options if name == "same command" else ["train", "--resume"]
        code, said, err = run(capsys, *again, *(["--out"] * (again is options)), out)
        assert code == 0, err
        assert "goes on in epoch 1, after 2 of 3 steps" in words(said)
        assert len(RunFolder(out).history()) == 2
        assert same_weights(out, tmp_path / "whole")
    # other options make another run
    with monkeypatch.context() as patched:
        patched.setattr(RunBars, "step", signalled(sent))
        run(capsys, *options, "--out", tmp_path / "other")
    code, _, err = run(capsys, *options, "--batch-size", 30, "--out", tmp_path / "other")
    assert (code, "already holds something" in err) == (2, True)


def test_a_finished_run_is_extended(capsys, digits, tmp_path):
    out = tmp_path / "a"
    options = ["--data", digits, "--batch-size", 40, "--lr", 0.05]
    run(capsys, "train", *options, "--epochs", 1, "--out", out)
    # ten is the default: it counts all the same, and so it does from the run's own file afterwards
    code, said, _ = run(capsys, "train", "--resume", out, "--epochs", 10)
    assert code == 0
    assert "1 of 10 epochs done before" in words(said)
    assert "epochs 1 → 10: one-cycle is made for 10 epochs" in words(said)
    history = RunFolder(out).history()
    assert len(history) == 10
    assert history.column("note")[:3] == ["", "epochs 1 → 10", ""]
    code, said, _ = run(capsys, "train", "--resume", out)
    assert (code, "10 of 10 epochs done before" in words(said)) == (0, True)
    code, _, err = run(capsys, "train", "--resume", out, "--epochs", 9)
    assert (code, "10 epochs were run already" in err) == (2, True)
    assert RunFolder(out).config()["epochs"] == 10  # a refused command leaves no trace
    assert len(RunFolder(out).history()) == 10


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_diverged_run_goes_on_with_what_it_advises(capsys, digits, tmp_path, monkeypatch, epochs):
    """From its last good epoch, or from the beginning where there is none."""
    from twostroke.training import Objective

    real = Objective.__call__

    def explodes(self, net, batch):
        return real(self, net, batch) * (1e9 if batch.progress >= epochs / 4 else 1)

    out = tmp_path / "a"
    options = ["--data", digits, "--batch-size", 40, "--lr", 0.05, "--epochs", 4]
    with monkeypatch.context() as patched:
        patched.setattr(Objective, "__call__", explodes)
        code, said, _ = run(capsys, "train", *options, "--out", out)
    assert code == 1
    assert "Lower the learning rate (lr)" in words(said)
    assert f"try: twostroke train --resume {out} --lr 0.005" in said.replace("\n", "")
    code, said, err = run(capsys, "train", "--resume", out, "--lr", 0.005)
    assert code == 0, err
    history = RunFolder(out).history()
    change = "lr 0.05 → 0.005"
    assert history.column("note") == ["", "", change, ""] if epochs else 4 * [""]
    assert tomllib.loads((out / "config.toml").read_text())["lr"] == 0.005
    code, _, err = run(capsys, "train", "--resume", out, "--lr", 0.001)
    assert (code, "this one has not" in err) == (2, True)


def signalled(sent):
    """In the place of a listener's method: a signal arrives at the second step."""

    def step(self, where):
        if where.step == 2:
            os.kill(os.getpid(), sent)

    return step
