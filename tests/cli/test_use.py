"""`twostroke predict`, `evaluate` and `export` on runs of `train`, `dsd` and `distill`."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

import twostroke as ts
from tests.toy import toy_tensors
from twostroke.cli import main

from .typed import run, words

NAMES = ("[red]", "b", "c", "d")  # brackets are no markup here


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of small grey pictures, 40 to train and 24 to test."""
    place = tmp_path_factory.mktemp("pictures")
    for part, count in (("train", 40), ("test", 24)):
        x, y = toy_tensors(count, len(part))
        x = ((x + 3) * 40).clamp(0, 255).byte().repeat_interleave(3, 2).repeat_interleave(3, 3)
        for k, (image, label) in enumerate(zip(x, y.tolist(), strict=True)):
            file = place / part / NAMES[label] / f"{k:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(file)
    return place


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    """A run of `train`."""
    out = tmp_path_factory.mktemp("runs") / "a"
    options = ["--epochs", 3, "--batch-size", 20, "--optimizer", "muon", "--ema-decay", 0.5]
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in ["train", "--data", f"folder:{pictures}", *options, "--out", out]])
    assert stop.value.code == 0
    return out


def error_of(model, pictures):
    """In %, picture by picture."""
    files = sorted((pictures / "test").rglob("*.png"))
    found = [model(model.preprocess(file)[None]).argmax() for file in files]
    wrong = [model.classes[k] != file.parent.name for k, file in zip(found, files, strict=True)]
    return 100 * sum(wrong) / len(wrong)


@pytest.mark.parametrize(
    "options",
    [
        ["distill", "--steps", 4, "--batch-size", 20, "--probe", 20, "--width", 0.5],
        ["distill", "--steps", 4, "--batch-size", 20, "--probe", 20, "--bits", 2],
        ["dsd", "--epochs", 0, 1, 0, "--batch-size", 20, "--model", "allcnn-mini"],
        ["train", "--epochs", 1, "--batch-size", 20, "--preprocess", "gcn-zca"],
    ],
    ids=lambda options: " ".join(map(str, options[-2:])),
)
def test_every_run_loads_and_has_the_error_that_was_told(
    capsys, pictures, trained, tmp_path, options, monkeypatch
):
    command, *rest = options
    if command == "distill":
        rest += ["--teacher", trained]
    else:
        rest += ["--data", f"folder:{pictures}", "--data-root", tmp_path / "root"]
    code, _, err = run(capsys, command, *rest, "--out", tmp_path / "s")
    assert code == 0, err
    error = ts.RunFolder(tmp_path / "s").history()[-1].error
    assert error_of(ts.load(tmp_path / "s"), pictures) == pytest.approx(error)
    monkeypatch.chdir("/")  # the run knows where its data are
    code, out, err = run(capsys, "evaluate", tmp_path / "s")
    assert code == 0, err
    assert f"error {error:.2f} % of 24" in words(out)
    assert (tmp_path / "s" / "confusion.png").read_bytes()[:4] == b"\x89PNG"


def test_probabilities_of_pictures_as_a_table_and_as_csv(capsys, pictures, trained, tmp_path):
    folder = pictures / "test" / "[red]"
    files = sorted(folder.iterdir())
    model = ts.load(trained)
    with torch.no_grad():
        shares = model(torch.stack([model.preprocess(f) for f in files])).softmax(1)
    out = tmp_path / "new" / "out.csv"
    code, _, err = run(capsys, "predict", trained, folder, "--csv", out, "--batch-size", 4)
    assert (code, err) == (0, "")
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == [str(file) for file in files]
    for row, share in zip(rows, shares, strict=True):
        best = share.argsort(descending=True)[:3]
        for k, number in zip(("", "_2", "_3"), best, strict=True):
            assert row[f"class{k}"] == model.classes[number]
            assert float(row[f"probability{k}"]) == pytest.approx(float(share[number]), abs=1e-6)
    code, said, _ = run(capsys, "predict", trained, files[0], "--top", 9)
    assert code == 0
    assert all(name in said for name in NAMES)  # as many as there are
    assert f"{100 * shares[0].max():.1f}" in said


def test_damaged_pictures_are_named_and_left_out(capsys, pictures, trained, tmp_path):
    good = pictures / "test" / "b" / "01.png"
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:90])
    (tmp_path / "good.png").write_bytes(good.read_bytes())
    code, said, err = run(capsys, "predict", trained, tmp_path, "--top", 1)
    assert code == 2
    assert "good.png" in words(said).replace(" ", "")
    assert "cut.png is not a picture, or is broken" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "nowhere.png"], "nowhere.png: there is no such file or folder"),
        (["RUN", "EMPTY"], "has no pictures"),
        (["RUN"], "name a picture or a folder"),
        (["RUN", "PICTURES", "--top", 0], "--top is 1 or more, not 0"),
        (["EMPTY", "PICTURES"], "has no model.safetensors"),
    ],
)
def test_slips_of_predict_are_named(capsys, pictures, trained, tmp_path, arguments, message):
    known = {"RUN": trained, "EMPTY": tmp_path, "PICTURES": pictures}
    code, _, err = run(capsys, "predict", *(known.get(a, a) for a in arguments))
    assert code == 2
    assert message in words(err)


def test_a_run_is_tested_on_other_data(capsys, trained, tmp_path):
    x, y = (t.numpy() for t in toy_tensors(24, 5))
    x = ((x + 3) * 40).clip(0, 255).astype(np.uint8).repeat(3, 2).repeat(3, 3)
    sets = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    order = [2, 0, 3, 1]  # the same classes, numbered otherwise
    moved = {"y_train": np.argsort(order)[y], "y_test": np.argsort(order)[y]}
    files = [tmp_path / f"{name}.npz" for name in ("same", "moved", "strange")]
    np.savez(files[0], **sets, classes=np.array(NAMES))
    np.savez(files[1], **(sets | moved), classes=np.array([NAMES[k] for k in order]))
    np.savez(files[2], **sets, classes=np.array(["p", "q", "r", "s"]))
    said = []
    for file in files[:2]:
        out = tmp_path / "c.png"
        code, text, err = run(capsys, "evaluate", trained, "--data", f"npz:{file}", "--out", out)
        assert code == 0, err
        said.append(words(text).rpartition("error ")[2].split()[0])
    assert said[0] == said[1] != "100.00"
    code, _, err = run(capsys, "evaluate", trained, "--data", f"npz:{files[2]}")
    assert code == 2
    assert "has classes that the model does not know: p, q, r, s; it knows [red], b, c, d" in err
    code, _, err = run(capsys, "evaluate", trained, "--out", tmp_path / "c.txt")
    assert code == 2
    assert "a picture's name ends in .png" in err


def test_a_teacher_of_elsewhere_leaves_no_test_set(capsys, trained, tmp_path):
    copy = tmp_path / "model.safetensors"
    copy.write_bytes((trained / "model.safetensors").read_bytes())
    code, _, err = run(capsys, "evaluate", copy)
    assert code == 2
    assert "config.toml: there is no such file" in err


def test_weights_for_other_programs(capsys, trained, tmp_path):  # a program: tests/test_docs.py
    command = ["export", trained, "--format", "safetensors", "--out", tmp_path / "m.safetensors"]
    code, said, err = run(capsys, *command)
    assert code == 0, err
    assert "its outputs differ by 0.0e+00" in said
    model, again = ts.load(trained), ts.load(tmp_path / "m.safetensors")
    x = torch.randn(5, *model.preprocess.shape)
    assert torch.equal(again(x), model(x))
    assert again.classes == NAMES
    code, _, err = run(capsys, *command)
    assert code == 2
    assert "is there already" in err


def test_onnx_gives_the_outputs_of_the_model(capsys, trained, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    code, _, err = run(capsys, "export", trained, "--format", "onnx", "--out", tmp_path / "a.onnx")
    assert code == 0, err
    model = ts.load(trained)
    x = torch.randn(5, *model.preprocess.shape)
    session = runtime.InferenceSession(tmp_path / "a.onnx")
    (scores,) = session.run(None, {"images": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(scores), model(x).detach(), rtol=1e-4, atol=1e-5)
    assert "[red]" in session.get_modelmeta().custom_metadata_map["classes"]


def test_a_file_that_gives_other_outputs_is_not_kept(capsys, trained, tmp_path, monkeypatch):
    from twostroke.cli import export

    monkeypatch.setitem(export._WRITE, "safetensors", lambda *_: lambda x: torch.ones(len(x), 4))
    out = tmp_path / "m.safetensors"
    code, _, err = run(capsys, "export", trained, "--format", "safetensors", "--out", out)
    assert code == 2
    assert "gives other outputs than the model" in err
    assert not list(tmp_path.iterdir())
