"""`twostroke demo`, on few images."""

import importlib
from types import ModuleType

import pytest

from tests.toy import toy_tensors
from twostroke.data import from_tensors
from twostroke.training import Settings

from .typed import run

demo_module = importlib.import_module("twostroke.cli.demo")


@pytest.fixture
def small_demo(monkeypatch) -> ModuleType:
    """The demo's module."""
    x, y = toy_tensors(200)
    x = x.repeat_interleave(3, 2).repeat_interleave(3, 3)
    digits = [str(k) for k in range(10)]
    small = from_tensors(x, y, x[:80], y[:80], classes=digits, name="toy", note="200 toys")
    monkeypatch.setattr(demo_module, "load", lambda name: small)
    monkeypatch.setattr(demo_module, "SETTINGS", demo_module.SETTINGS.but(batch_size=40))
    return demo_module


@pytest.mark.parametrize("when", ["training", "evaluation"])
def test_a_stopped_demo_keeps_nothing(capsys, tmp_path, monkeypatch, small_demo, when):
    def stop(*args, **options):
        raise KeyboardInterrupt

    if when == "training":
        monkeypatch.setattr(small_demo.RunBars, "step", stop)
    else:
        monkeypatch.setattr(small_demo, "evaluate", stop)
    code, out, _ = run(capsys, "demo", "--epochs", 1, "--out", tmp_path / "d")
    assert code == 130
    assert "1 for each of three arms, 1 for the one" in out.replace("\n", " ")
    assert "nothing is kept" in out
    assert not (tmp_path / "d").exists()


def test_a_demo_that_diverges_says_so_and_keeps_nothing(capsys, tmp_path, monkeypatch, small_demo):
    monkeypatch.setattr(small_demo, "SETTINGS", small_demo.SETTINGS.but(lr=1e6))
    code, out, _ = run(capsys, "demo", "--epochs", 1, "--out", tmp_path / "d")
    assert code == 1
    assert "SGD: diverged (in epoch 1" in out
    assert not (tmp_path / "d").exists()


@pytest.mark.usefixtures("small_demo")
def test_demo_shows_its_four_arms(capsys, tmp_path):
    code, out, _ = run(capsys, "demo", "--epochs", 2, "--out", tmp_path / "d")
    assert code == 0
    assert {p.name for p in (tmp_path / "d").iterdir()} >= {
        "curves.png",
        "report.html",
        "sgd.csv",
        "instance-wise.csv",
        "batch-wise.csv",
        "muon.csv",
    }
    assert "the fresh networks" in out  # where the time went
    lines = [line.split() for line in out.splitlines() if line.startswith(" Muon ")]
    assert [line[1] for line in lines] == ["1"]  # one epoch against two
    page = (tmp_path / "d" / "report.html").read_text()
    assert page.count("<svg ") == 4
    assert "The teacher is the network trained by Muon" in page


@pytest.mark.parametrize(("epochs", "half"), [(1, 1), (2, 1), (6, 3), (7, 3)])
def test_muon_gets_half_the_epochs_and_the_same_batches(epochs, half):
    settings = Settings(epochs=epochs, batch_size=40, seed=5)
    *others, (name, (_, muon)) = demo_module.arms(settings).items()
    assert all(arm == settings for _, (_, arm) in others)
    assert name == "Muon"
    assert (muon.epochs, muon.batch_size, muon.seed) == (half, 40, 5)
    assert muon.optimizer == "muon"
