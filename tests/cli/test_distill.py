"""`twostroke distill` and `twostroke guide`, on toy images."""

import os
import signal
import tomllib

import numpy as np
import pytest
import torch
from PIL import Image

import twostroke as ts
from twostroke.cli.lessons import options_of
from twostroke.cli.teachers import teacher_of
from twostroke.errors import RunFolderError, SettingsError
from twostroke.guidance.students import load_student

from .typed import run, words

QUICK = ["--steps", "12", "--batch-size", "20", "--probe", "20"]


@pytest.fixture(scope="module")
def teacher(digits, tmp_path_factory):
    """A run of `train`, made by the command itself."""
    from twostroke.cli import main

    folder = tmp_path_factory.mktemp("teacher") / "run"
    options = ["--epochs", "2", "--batch-size", "40", "--optimizer", "muon"]
    with pytest.raises(SystemExit) as stop:
        main(["train", "--data", digits, *options, "--out", str(folder)])
    assert stop.value.code == 0
    return folder


def test_a_fresh_network_from_the_supports_of_a_run(capsys, teacher, tmp_path):
    out = tmp_path / "s"
    code, said, _ = run(
        capsys, "distill", "--teacher", teacher, "--examples", 60, *QUICK, "--compare", "--out", out
    )
    assert code == 0
    text = words(said)
    for part in ("teaches fresh on 60 images", "features.2#0", "by outputs alone", "error %"):
        assert part in text
    names = {p.name for p in out.iterdir()}
    assert names >= {"config.toml", "guide.safetensors", "student.safetensors", "model.safetensors"}
    guide = ts.Guide.load(out / "guide.safetensors")
    assert (len(guide), len(guide.sites)) == (60, 5)
    student = load_student(out / "student.safetensors")
    found = teacher_of(str(teacher))
    assert student(torch.zeros(2, *found.about.shape)).shape == (2, 4)
    config = tomllib.loads((out / "config.toml").read_text())
    assert (config["command"], config["optimizer"], config["examples"]) == ("distill", "muon", 60)
    assert not {"epochs", "preprocess", "image_size"} & config.keys()
    # the student teaches in its turn, with its data
    options = ["--examples", 40, "--bits", 1, *QUICK]
    code, said, err = run(capsys, "distill", "--teacher", out, *options, "--out", tmp_path / "t")
    assert code == 0, err
    assert "tested on" in said


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--bits", 1], ["1 bit"]),
        (["--prune", 0.8], ["80 % pruned"]),
        (["--width", 0.5], ["width 0.5"]),
        (["--model", "allcnn-mini"], ["allcnn-mini"]),
    ],
)
def test_other_students(capsys, teacher, tmp_path, options, names):
    out = tmp_path / "s"
    code, said, err = run(
        capsys, "distill", "--teacher", teacher, "--examples", 40, *options, *QUICK, "--out", out
    )
    assert code == 0, err
    assert all(name in words(said) for name in names)
    net = load_student(out / "student.safetensors")
    weight = net.features[3].weight  # the second of five layers
    if "--bits" in options:
        assert len(weight.abs().flatten(1).unique(dim=1)[0]) == 1
        assert (out / "student.safetensors").stat().st_size < 60_000  # 400 kB as float32
    if "--width" in options:
        assert weight.shape[:2] == (16, 12)
    if "--prune" in options:
        assert (weight == 0).float().mean() == pytest.approx(0.8, abs=0.01)


def test_a_few_places_of_pictures_of_nothing(capsys, teacher, tmp_path):
    out = tmp_path / "s"
    options = ["--images", "noise", "--examples", 40, "--places", 2]
    code, _, err = run(capsys, "distill", "--teacher", teacher, *options, *QUICK, "--out", out)
    assert code == 0, err
    guide = ts.Guide.load(out / "guide.safetensors")
    assert len(guide) == 40
    assert {site.shape[1:] for site in guide.kept if len(site.shape) > 1} <= {(2,), (1, 1)}


def test_pictures_of_a_folder_without_labels(capsys, teacher, tmp_path):
    draw = np.random.default_rng(0)
    for k in range(24):
        file = tmp_path / "photos" / str(k % 3) / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 255, (20 + k, 30, 3), dtype=np.uint8)).save(file)
    code, said, err = run(
        capsys,
        *("distill", "--teacher", teacher, "--images", tmp_path / "photos", "--data", "none"),
        *(*QUICK, "--out", tmp_path / "s"),
    )
    assert code == 0, err
    assert "24 images (no test set)" in words(said)
    assert "differs %" in words(said)
    assert "against the teacher: error" in words(said)
    assert "test error" not in words(said)


def test_a_guide_is_written_once_and_trains_elsewhere(capsys, digits, teacher, tmp_path):
    file = tmp_path / "guide.safetensors"
    options = ["--teacher", teacher, "--examples", 40]
    code, said, _ = run(capsys, "guide", *options, "--out", file)
    assert code == 0
    assert "Guide of 40 images" in said
    assert f"twostroke distill --guide {file} --data {digits} --out" in said
    code, _, err = run(capsys, "guide", *options, "--out", file)
    assert code == 2
    assert "is there already" in err
    # someone else has the images, and neither the teacher nor its seed
    images = ["--data", digits, "--guide", file, *QUICK]
    code, _, err = run(capsys, "distill", *images, "--seed", 7, "--out", tmp_path / "s")
    assert code == 0, err
    code, _, err = run(capsys, "distill", *images, "--width", 0.5, "--out", tmp_path / "w")
    assert code == 2
    assert "there is only a guide" in words(err)
    other = ["--data", "mnist-12k", "--guide", file, *QUICK]
    code, _, err = run(capsys, "distill", *other, "--out", tmp_path / "t")
    assert code == 2
    assert not (tmp_path / "t").exists()
    code, _, err = run(capsys, "guide", *options, "--out", tmp_path / "nowhere" / "g")
    assert code == 2
    assert "no such folder" in err


def test_views_of_augmented_images(capsys, teacher, tmp_path):
    options = ["--teacher", teacher, "--examples", 20, "--augmentation", "shift", *QUICK]
    code, _, err = run(capsys, "distill", *options, "--out", tmp_path / "s")
    assert code == 2
    assert "--views 2 or more" in words(err)
    code, _, err = run(capsys, "distill", *options, "--views", 3, "--out", tmp_path / "s")
    assert code == 0, err
    assert ts.Guide.load(tmp_path / "s" / "guide.safetensors").views == 3


def test_images_of_something_else_teach_and_are_not_tested_on(capsys, teacher, tmp_path):
    x, y = torch.randint(0, 255, (60, 1, 12, 12), dtype=torch.uint8), torch.arange(60) % 6
    np.savez(tmp_path / "other.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    options = ["--teacher", teacher, "--data", f"npz:{tmp_path / 'other.npz'}", *QUICK]
    code, said, err = run(capsys, "distill", *options, "--out", tmp_path / "s")
    assert code == 0, err
    assert "no test set" in words(said)
    code, _, err = run(capsys, "distill", *options, "--labels", "--out", tmp_path / "t")
    assert code == 2
    assert "leave --labels out" in words(err)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "say who teaches"),
        (["--teacher", "nobody"], "no such folder or file"),
        (["--teacher", "TEACHER", "--width", "0.5", "--bits", "2"], "give one of them"),
        (["--teacher", "TEACHER", "--examples", "1"], "2 or more"),
        (["--teacher", "TEACHER", "--data", "none"], "there are no images"),
        (["--teacher", "TEACHER", "--model", "resnet81"], "did you mean resnet18"),
        (["--teacher", "TEACHER", "--images", "x", "--labels"], "have no labels"),
        (["--teacher", "TEACHER", "--epochs", "3"], "leave --epochs out"),
        (["--teacher", "TEACHER", "--preprocess", "unit"], "leave --preprocess out"),
        (["--teacher", "TEACHER", "--image-size", "8"], "leave --image-size out"),
        (["--teacher", "TEACHER", "--split", "0.2"], "of --data folder:PATH"),
    ],
)
def test_slips_are_named_and_leave_nothing(capsys, teacher, tmp_path, options, message):
    options = [str(teacher) if o == "TEACHER" else o for o in options]
    code, _, err = run(capsys, "distill", *options, "--out", tmp_path / "s")
    assert code == 2
    assert message in words(err)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("places", 0),
        ("width", 0),
        ("prune", 1.0),
        ("steps", 0),
        ("weight", -1),
        ("kd", "nan"),
        ("kd", 0),
    ],
)
def test_numbers_out_of_range_are_refused_before_any_work(capsys, tmp_path, option, value):
    code, _, err = run(
        capsys, "distill", "--teacher", "nobody", f"--{option}", value, "--out", tmp_path / "s"
    )
    assert (code, f"--{option}" in err) == (2, True)


def test_what_is_refused_is_not_offered(capsys):
    text = words(run(capsys, "distill", "--help")[1])
    assert "--steps" in text
    assert not any(name in text for name in ("--epochs", "--image-size", "--preprocess"))


def test_a_stopped_run_goes_on(capsys, teacher, tmp_path, monkeypatch):
    from twostroke.cli.progress import RunBars

    def stop(self, where):
        if where.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    options = ["--examples", 40, *QUICK]
    options = ["distill", "--teacher", teacher, *options]
    run(capsys, *options, "--out", tmp_path / "whole")
    for name in ("s", "t"):
        with monkeypatch.context() as patched:
            patched.setattr(RunBars, "step", stop)
            code, said, _ = run(capsys, *options, "--out", tmp_path / name)
        assert code == 130
        assert "distill --resume" in words(said)
        again = options[1:] if name == "t" else []
        code, said, err = run(
            capsys, "distill", *again, "--out" if again else "--resume", tmp_path / name
        )
        assert code == 0, err
        assert "goes on in epoch 1, after 2 of 12 steps" in words(said)
        nets = [load_student(tmp_path / one / "student.safetensors") for one in (name, "whole")]
        for p, q in zip(*(net.parameters() for net in nets), strict=True):
            assert torch.equal(p, q)
    code, _, err = run(capsys, "train", "--resume", tmp_path / "s")
    assert (code, "`twostroke distill --resume" in err) == (2, True)
    code, _, err = run(capsys, "distill", "--resume", tmp_path / "s", "--epochs", 10)
    assert (code, "is --steps: leave --epochs out" in err) == (2, True)


def test_teachers_by_name(teacher, tmp_path):
    found = teacher_of(str(teacher))
    assert not found.net.training
    assert found.about.classes == ("0", "1", "2", "3")
    assert options_of(found.run).data.startswith("npz:")
    again = teacher_of(str(teacher / "model.safetensors"))
    assert again.run is None
    for p, q in zip(found.net.parameters(), again.net.parameters(), strict=True):
        assert torch.equal(p, q)
    ts.RunFolder(tmp_path).save_model(found.net)
    with pytest.raises(RunFolderError, match="does not say what its model is"):
        teacher_of(str(tmp_path / "model.safetensors"))
    with pytest.raises(SettingsError, match="torchvision:NAME"):
        teacher_of(str(tmp_path / "nothing"))
