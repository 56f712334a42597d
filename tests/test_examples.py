"""The examples run, on fewer digits, and what they find is so."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

import twostroke as ts

FOLDER = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def _few_digits(monkeypatch):
    all_of_them = ts.data.load("mnist-12k")
    train, test = (
        part.subset(torch.arange(count))
        for part, count in ((all_of_them.train, 600), (all_of_them.test, 500))
    )
    monkeypatch.setattr(ts.data, "load", lambda _: ts.data.Data("few digits", train, test))


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_own_loop():
    assert example("own_loop").main() < 0.5  # one that guesses errs in 0.9


def test_shrink():
    pytest.importorskip("torch_pruning", reason="the example narrows with it")
    teacher, guided, outputs = example("shrink").main(lessons=600, steps=6)
    assert teacher < 80  # six hundred digits, seen once
    assert guided != outputs


def test_study():
    same, regions = example("study").main(examples=500)
    assert same > 0.3  # a tenth is chance
    assert regions > 100


def test_reproduce_figure(tmp_path):
    picture = tmp_path / "curves.png"
    errors = example("reproduce_figure").main(picture, examples=300, epochs=3)
    assert errors["SGD"] != errors["alternation"]
    assert picture.stat().st_size > 10_000


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_they_are_short(path):
    assert len(path.read_text().splitlines()) < 60
