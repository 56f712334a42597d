"""Weights that a run begins with: of another run, of a file, published ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from twostroke.cli.weights import Start, Weights
from twostroke.data import from_tensors
from twostroke.errors import RunFolderError, SettingsError
from twostroke.models import create_model
from twostroke.runs import About, RunFolder
from twostroke.runs.ready import load_with_about

from .typed import run, words

ABOUT = About("allcnn-mini", ("cat", "dog"), (3, 16, 16), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """A run's folder with weights of two classes of colour pictures."""
    net = create_model("allcnn-mini", classes=2)
    run = RunFolder.create(tmp_path / "known", {"command": "train", "model": "allcnn-mini"})
    run.save_model(net, about=ABOUT)
    return tmp_path / "known"


def of(weights: Path | str) -> Weights:
    return Weights.of(str(weights), "allcnn-mini")


def changed(net: torch.nn.Module, file: Path) -> set[str]:
    """Layers whose weights are not those of the file."""
    theirs = load_file(file)
    return {
        name.rpartition(".")[0]
        for name, value in net.state_dict().items()
        if value.shape != theirs[name].shape or not torch.equal(value, theirs[name])
    }


@pytest.mark.parametrize(
    ("classes", "channels", "layers"),
    [
        (("cat", "dog"), 3, []),
        (("cat", "dog", "eel"), 3, ["last"]),
        (("dog", "cat"), 3, ["last"]),  # the same number, but other outputs
        (("dog", "eel"), 1, ["first", "last"]),
    ],
)
def test_layers_that_do_not_fit_are_drawn_again(known, classes, channels, layers):
    net, fresh = of(known).network("allcnn-mini", classes, channels)
    assert [text.split()[1] for text in fresh] == layers
    convs = [name for name, m in net.named_modules() if isinstance(m, torch.nn.Conv2d)]
    named = {"first": convs[0], "last": convs[-1]}
    assert changed(net, known / "model.safetensors") == {named[which] for which in layers}


def test_numbered_classes_are_compared_by_their_number(known):
    RunFolder(known).save_model(
        create_model("allcnn-mini", classes=2),
        about=About("allcnn-mini", ("0", "1"), (3, 16, 16)),
    )
    assert of(known).network("allcnn-mini", ("0", "1"), 3)[1] == []


def test_a_plain_file_of_safetensors(known, tmp_path):
    save_file(load_file(known / "model.safetensors"), tmp_path / "plain.safetensors")
    found = of(tmp_path / "plain.safetensors")
    assert found.prepared.mean is None
    net, fresh = found.network("allcnn-mini", ("a", "b"), 3)
    assert fresh == []
    assert changed(net, tmp_path / "plain.safetensors") == set()
    with pytest.raises(RunFolderError, match=r"another model: it has no block1.0.weight"):
        found.network("allcnn-c", ("a", "b"), 3)


def test_a_run_goes_on_without_the_weights_it_began_with(known, tmp_path):
    start = Start.of(str(known), "allcnn-mini", data="x", preprocess="none")
    x, y = torch.rand(20, 3, 16, 16), torch.arange(20) % 4
    data = from_tensors(x, y, x, y)
    start.network("allcnn-mini", data)
    assert start.fresh == ["the last layer (for 4 classes)"]
    start.keep(tmp_path)
    again = Start.of("gone", "allcnn-mini", data="x", preprocess="none", begun=tmp_path)
    assert (again.prepared, again.fresh) == (start.prepared, start.fresh)
    assert again.prepared.mean == ABOUT.mean
    RunFolder(tmp_path).beginning_file.unlink()
    with pytest.raises(RunFolderError, match=r"weights.json does not say how the run began"):
        Start.of("gone", "allcnn-mini", data="x", preprocess="none", begun=tmp_path)


class Counts(torch.nn.Sequential):
    """Adds to its state, as modules of their own may, and prepares images as GoogLeNet does."""

    def __init__(self, transform_input=False):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(48, 2))
        self.transform_input, self.calls = transform_input, 0

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


def test_all_of_a_state_comes_over_and_how_the_model_is_built_is_kept(tmp_path, monkeypatch):
    def create(name, *, classes, in_channels, **options):
        return Counts(**options)

    monkeypatch.setattr("twostroke.cli.weights.create_model", create)
    net = Counts()
    net.calls = 5
    about = About("counts", ("0", "1"), (3, 4, 4), options={"transform_input": True})
    run = RunFolder.create(tmp_path / "run", {"command": "train"})
    run.save_model(net, about=about)
    x, y = torch.rand(8, 3, 4, 4), torch.arange(8) % 2
    data = from_tensors(x, y, x, y)
    start = Start.of(str(run.path), "counts", data="x", preprocess="none")
    begun = start.network("counts", data)
    assert (begun.calls, begun.transform_input, start.fresh) == (5, True, [])
    start.keep(tmp_path)
    for weights in ("gone", "torchvision"):  # neither is looked for again
        again = Start.of(weights, "counts", data="x", preprocess="none", begun=tmp_path)
        assert again.network("counts", data).transform_input


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ("torchvision", "allcnn-mini is not one of torchvision's models"),
        ("timm", "allcnn-mini is not one of timm's models"),
        ("nowhere", "nowhere: nothing is there"),
        (__file__, "not a file of safetensors"),
        (str(Path(__file__).parent), "it has no model.safetensors"),
    ],
)
def test_what_is_no_weights_is_refused(weights, text):
    with pytest.raises(SettingsError, match=text):
        of(weights)


def test_train_on_a_folder_from_weights_of_a_run(capsys, known, tmp_path):
    draw = np.random.default_rng(0)
    for name in ("ant", "bee", "eel"):
        for k in range(8):
            file = tmp_path / "pictures" / name / f"{k}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(0, 256, (20 + k, 40 - k, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(file)
    out = tmp_path / "run"
    options = ["--data", f"folder:{tmp_path / 'pictures'}", "--split", 0.25, "--epochs", 1]
    code, said, err = run(
        capsys, "train", *options, "--batch-size", 9, "--weights", known, "--out", out
    )
    assert code == 0, err
    said = words(said)
    assert "18 + 6 images of pictures, brought to 16 x 16 (tested on 25 % of each class" in said
    assert "drawn again: the last layer (for 3 classes)" in said
    about = load_with_about(out)[1]
    assert (about.classes, about.shape) == (("ant", "bee", "eel"), (3, 16, 16))
    assert about.mean == pytest.approx(ABOUT.mean)
    text = (out / "config.toml").read_text()
    assert "split = 0.25" in text
    assert "split_seed = 0" in text
