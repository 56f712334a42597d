"""Every command as a user types it, errors included, in this process (one runs as a program)."""

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

from tests.toy import toy_record, toy_tensors
from tests.training.faults import in_a_child
from tests.processes.several import interruptible
from twostroke.cli import main
from twostroke.data import from_tensors
from twostroke.training import History, RunFolder

QUICK = ["--epochs", "2", "--batch-size", "40", "--lr", "0.05"]


def run(capsys, *arguments):
    """Exit code, what was printed, and what was complained of."""
    code = 0
    try:
        main([str(a) for a in arguments])
    except SystemExit as stop:
        code = stop.code or 0
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("kind", ["none", "instance", "batch"])
def test_train_fills_a_folder_that_repeats_the_run(capsys, digits, tmp_path, kind):
    a, b = tmp_path / "a", tmp_path / "b"
    code, out, _ = run(
        capsys, "train", "--data", digits, "--alternation", kind, "--warmup", 1, *QUICK, "--out", a
    )
    assert code == 0
    assert str(a) in out.replace("\n", "")
    assert "error" in out
    names = {p.name for p in a.iterdir()}
    assert names >= {
        "config.toml",
        "metrics.csv",
        "model.safetensors",
        "curves.png",
        "versions.json",
        "checkpoint.safetensors",
    }
    assert json.loads((a / "versions.json").read_text())["torch"]
    config = tomllib.loads((a / "config.toml").read_text())
    assert config["alternation"] == kind
    assert config["epochs"] == 2
    assert (a / "curves.png").read_bytes()[:4] == b"\x89PNG"
    code, _, _ = run(capsys, "train", "--config", a / "config.toml", "--out", b)
    assert code == 0
    first, second = (load_file(f / "model.safetensors") for f in (a, b))
    assert all((first[name] == second[name]).all() for name in first)


def test_a_solver_for_the_weight_strokes(capsys, digits, tmp_path):
    options = ["train", "--data", digits, "--warmup", 1, *QUICK]
    code, out, _ = run(
        capsys, *options, "--alternation", "instance", "--solver", "lbfgs", "--out", tmp_path / "a"
    )
    assert code == 0
    assert "weight stroke of epoch 2" in out
    live, held = History.load(tmp_path / "a" / "metrics.csv")
    assert live.passes == 1 < held.passes
    assert tomllib.loads((tmp_path / "a" / "config.toml").read_text())["solver"] == "lbfgs"
    for wrong, words in (
        (["--solver", "lbfgs"], "instance-wise"),
        (["--alternation", "instance", "--solver", "muon"], "optimizer='muon'"),
        (["--alternation", "instance", "--solver", "lagrangian"], "nn.Sequential"),
    ):
        code, _, err = run(capsys, *options, *wrong, "--out", tmp_path / "b")
        assert code == 2
        assert words in err.replace("\n", " ")
        assert not (tmp_path / "b").exists()


def test_layers_that_rest_and_sites_that_are_kept(capsys, digits, tmp_path):
    options = ["train", "--data", digits, *QUICK, "--epochs", 4, "--rest", 1.0]
    options += ["--alternation", "instance", "--warmup", 1, "--gap", 1, "--keep", 0.05]
    code, out, _ = run(capsys, *options, "--out", tmp_path / "a")
    assert code == 0
    assert "4 sites rest" in out
    history = History.load(tmp_path / "a" / "metrics.csv")
    assert history.column("resting") == [0, 0, 4, 4]
    config = tomllib.loads((tmp_path / "a" / "config.toml").read_text())
    assert (config["rest"], config["keep"]) == (1.0, 0.05)


def test_the_command_line_wins_over_the_file(capsys, digits, tmp_path):
    file = tmp_path / "c.toml"
    file.write_text(f'data = "{digits}"\nepochs = 7\nlr = 0.05\nbatch_size = 40\n')
    code, _, _ = run(capsys, "train", "--config", file, "--epochs", 1, "--out", tmp_path / "a")
    assert code == 0
    assert len(History.load(tmp_path / "a" / "metrics.csv")) == 1


def test_compare_draws_and_tells(capsys, digits, tmp_path):
    for name in ("a", "b"):
        run(capsys, "train", "--data", digits, *QUICK, "--out", tmp_path / name)
    out = tmp_path / "both.png"
    code, text, _ = run(
        capsys, "compare", tmp_path / "a", tmp_path / "b", "--out", out, "--targets", 99, 0
    )
    assert code == 0
    assert "to error %" in text
    assert "steps" in text
    assert "different data" not in text
    assert out.read_bytes()[:4] == b"\x89PNG"
    code, _, err = run(capsys, "compare", tmp_path / "a", "--out", out)
    assert code == 2
    assert "there already" in err
    code, _, err = run(capsys, "compare", tmp_path / "c", "--out", tmp_path / "x.png")
    assert code == 2
    assert "no such folder" in err
    picture = ["--out", tmp_path / "y.png"]
    for target in (-1, "nan", 101):
        code, _, err = run(capsys, "compare", tmp_path / "a", *picture, "--targets", target)
        assert code == 2
        assert "between 0 and 100" in err
    code, _, err = run(capsys, "compare", tmp_path / "a", tmp_path / "b" / ".." / "a", *picture)
    assert code == 2
    assert "more than once" in err


@pytest.mark.filterwarnings("error")
def test_compare_names_the_folder_it_is_in_and_tells_of_other_data(capsys, tmp_path, monkeypatch):
    for name, data in (("a", "mnist-12k"), ("b", "cifar10")):
        folder = RunFolder.create(tmp_path / name, {"data": data})
        folder.save_history(History([toy_record(epoch=1)]))
    monkeypatch.chdir(tmp_path / "a")
    code, text, _ = run(capsys, "compare", ".", "../b")
    assert code == 0
    assert "│ a " in text
    assert "different data" in text
    assert "a on mnist-12k, b on cifar10" in text


def test_sites_and_models(capsys):
    code, out, _ = run(capsys, "sites", "allcnn-mini", "--image", 28, "--channels", 1)
    assert code == 0
    assert "relu" in out
    assert "bytes" in out
    code, out, _ = run(capsys, "models")
    assert code == 0
    assert "allcnn-c" in out
    assert "torchvision" in out
    code, out, _ = run(capsys, "models", "--pattern", "allcnn*")
    assert {"allcnn-a", "allcnn-mini"} <= set(out.split())
    code, _, err = run(capsys, "sites", "vit_b_16", "--image", 224)
    assert code == 2
    assert "gelu" in err
    assert "and 9 more" in err  # twelve blocks, three named
    assert "--no-strict lists the rest" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "alcnn-c"], "allcnn-c"),
        (["--data", "mnist-21k"], "mnist-12k"),
        (["--data", "npz:nowhere.npz"], "nowhere.npz"),
        (["--data", "folder:nowhere"], "nowhere"),
        (["--batch-size", "5000"], "larger than the 120"),
        (["--lr", "-1"], "learning rate"),
        (["--device", "cuda:9"], "cuda:9"),
        (["--schedule", "one-cycel"], "one-cycle"),
        (["--warmup", "soon"], "plateau"),
        (["--rest", "1.5"], "--rest"),
        (["--augment", "flipshift"], "flip-shift"),
        (["--resume", "nowhere"], "nowhere"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_bad_input_names_culprit_and_fix_and_leaves_no_folder(
    capsys, digits, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    base = [] if arguments[0] in ("--data", "--resume", "--config") else ["--data", digits]
    out = [] if arguments[0] == "--resume" else ["--out", "a"]
    code, _, err = run(capsys, "train", *base, *out, *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") <= 3
    assert not (tmp_path / "a").exists()


def test_a_folder_that_holds_a_run_is_not_overwritten(capsys, digits, tmp_path):
    run(capsys, "train", "--data", digits, *QUICK, "--out", tmp_path / "a")
    before = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    code, _, err = run(capsys, "train", "--data", digits, *QUICK, "--out", tmp_path / "a")
    assert code == 2
    assert "already holds something" in err
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}


@pytest.mark.parametrize(
    ("text", "message"),
    [("epochz = 3", "epochs"), ('epochs = "three"', "epochs"), ("epochs = ", "not a TOML")],
)
def test_a_bad_config_is_named(capsys, tmp_path, text, message):
    (tmp_path / "c.toml").write_text(text)
    code, _, err = run(capsys, "train", "--config", tmp_path / "c.toml", "--out", tmp_path / "a")
    assert code == 2
    assert message in err
    assert "c.toml" in err


STORED = ["--alternation", "instance", "--warmup", "0", "--gap", "1", "--store", "file"]


def test_masks_in_a_file_of_the_runs_folder(capsys, digits, tmp_path):
    for store in ("auto", "file"):
        options = [*STORED[:-1], store, "--epochs", 1, "--batch-size", 40]
        code, out, _ = run(capsys, "train", "--data", digits, *options, "--out", tmp_path / store)
        assert code == 0
        kept = {"auto": "masks are kept in host memory", "file": "masks are kept in a file"}
        assert kept[store] in out
    assert (tmp_path / "file" / "support-1.store").exists()
    first, second = (load_file(tmp_path / s / "model.safetensors") for s in ("auto", "file"))
    assert all((first[name] == second[name]).all() for name in first)
    assert (
        run(capsys, "train", "--data", digits, "--store", "disk", "--out", tmp_path / "x")[0] == 2
    )


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
    first, second = (load_file(f / "model.safetensors") for f in (folder, whole))
    assert all((first[name] == second[name]).all() for name in first)
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
        with (tmp_path / "said").open("w") as said, contextlib.redirect_stderr(said):
            with pytest.raises(SystemExit) as stop:
                main(["train", "--data", digits, *STORED, *QUICK, "--out", str(tmp_path / "a")])
            assert stop.value.code == 2

    assert in_a_child(cramped) == 0
    text = (tmp_path / "said").read_text()
    assert text.count("\n") == 1
    assert "support-1.store could not be written (File too large)" in text
    assert "free 0.1 MB there" in text
    assert not (tmp_path / "a").exists()  # nothing was done yet


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_program_says_how_to_go_on_and_goes_on(capsys, digits, tmp_path, sent):
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
    assert "--resume" in out
    done = len(History.load(folder / "metrics.csv"))
    assert 1 <= done < 400
    config = (folder / "config.toml").read_text()
    assert "epochs = 400" in config


def test_help_and_version(capsys):
    assert "train" in run(capsys, "--help")[1]
    assert run(capsys, "--version")[1].startswith("twostroke 0.")
    code, out, _ = run(capsys, "train", "--help")
    assert code == 0
    assert "--alternation" in out
    assert run(capsys, "dmeo")[0] == 2


def test_import_is_light():
    """Neither pictures nor data sets nor the command line are loaded before they are asked for."""
    code = (
        "import sys, twostroke; heavy = ('matplotlib', 'torchvision', 'tyro', 'rich', 'PIL', 'timm',"
        "'accelerate');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_stands_over_a_file_and_that_over_a_preset(capsys, digits, tmp_path):
    (tmp_path / "c.toml").write_text(
        "epochs = 1\nmomentum = 0.5\nchannels_last = true\naverage = 0.9\n"
    )
    given = ["--preset", "fast", "--config", tmp_path / "c.toml", "--data", digits]
    given += ["--batch-size", 40, "--lr", 0.1, "--momentum", 0.9, "--no-channels-last"]  # defaults
    assert run(capsys, "train", *given, "--out", tmp_path / "a")[0] == 0
    model, mean = (load_file(tmp_path / "a" / f"{n}.safetensors") for n in ("model", "average"))
    assert model.keys() == mean.keys()
    config = tomllib.loads((tmp_path / "a" / "config.toml").read_text())
    told = {name: config[name] for name in ("optimizer", "epochs", "lr", "momentum", "average")}
    assert told == {
        "optimizer": "muon",
        "epochs": 1,
        "lr": 0.1,
        "momentum": 0.9,
        "average": 0.9,
    }
    assert not config["channels_last"]


def test_a_preset_leaves_learning_rate_and_decay_to_the_optimizer(capsys, digits, tmp_path):
    (tmp_path / "c.toml").write_text('optimizer = "sgd"\n')
    for name, given in (("a", ["--optimizer", "sgd"]), ("b", ["--config", tmp_path / "c.toml"])):
        options = ["--preset", "fast", *given, "--data", digits, "--epochs", 1, "--batch-size", 40]
        assert run(capsys, "train", *options, "--out", tmp_path / name)[0] == 0
        config = tomllib.loads((tmp_path / name / "config.toml").read_text())
        assert config["optimizer"] == "sgd"
        assert not {"lr", "weight_decay"} & config.keys()


@pytest.fixture
def small_demo(monkeypatch):
    """The demo's module, on few images."""
    from twostroke.cli import demo

    x, y = toy_tensors(200)
    x = x.repeat_interleave(3, 2).repeat_interleave(3, 3)
    digits = [str(k) for k in range(10)]
    small = from_tensors(x, y, x[:80], y[:80], classes=digits, name="toy", note="200 toys")
    monkeypatch.setattr(demo, "load", lambda name: small)
    monkeypatch.setattr(demo, "SETTINGS", demo.SETTINGS.but(batch_size=40))
    return demo


@pytest.mark.parametrize("when", ["training", "evaluation"])
def test_a_stopped_demo_keeps_nothing(capsys, tmp_path, monkeypatch, small_demo, when):
    def stop(*args, **options):
        raise KeyboardInterrupt

    if when == "training":
        monkeypatch.setattr(small_demo.RunBar, "step", stop)
    else:
        monkeypatch.setattr(small_demo, "evaluate", stop)
    code, out, _ = run(capsys, "demo", "--epochs", 1, "--out", tmp_path / "d")
    assert code == 130
    assert "1 for each of three arms, 1 for the one" in out.replace("\n", " ")
    assert "nothing is kept" in out
    assert not (tmp_path / "d").exists()


@pytest.mark.usefixtures("small_demo")
def test_demo_shows_its_four_arms(capsys, tmp_path):
    code, out, _ = run(capsys, "demo", "--epochs", 2, "--out", tmp_path / "d")
    assert code == 0
    assert {p.name for p in (tmp_path / "d").iterdir()} >= {
        "curves.png",
        "sgd.csv",
        "instance-wise.csv",
        "batch-wise.csv",
        "fast.csv",
    }
    lines = [line for line in out.splitlines() if "fast" in line and "│" in line]
    assert any(" 1 │" in line for line in lines)  # one epoch against two


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["trian"], "there is no command 'trian', did you mean 'train'?"),
        (["xyz"], "there is no command 'xyz': there are demo, train"),
        (["models", "--pattern", "resnt*"], "no model matches 'resnt*'"),
        (["train", "--data", "nowhere", "--model", "alcnn-c"], "no model 'alcnn-c'"),
        (["train", "--optimizer", "moun"], "did you mean 'muon'?"),
        (["train"], "say where the run is to go"),
    ],
)
def test_slips_are_told_before_anything_else(capsys, arguments, text):
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert text in err
