"""The examples run, and what they print is so."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_own_loop():
    assert example("own_loop").main() < 0.5  # of ten classes; guessing errs at 0.9


def test_shrink(capsys):
    pytest.importorskip("torch_pruning", reason="the example narrows with it")
    teacher, guided, outputs = example("shrink").main(steps=4)
    assert teacher < 20
    assert guided != outputs
    assert "half as wide" in capsys.readouterr().out


def test_study(capsys):
    same, regions = example("study").main(examples=500, epochs=1)
    assert same > 0.3  # a tenth is chance
    assert regions > 100
    assert capsys.readouterr().out.count("linear regions") == 2


def test_reproduce_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["reproduce_figure.py", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        example("reproduce_figure").main(tmp_path / "out")
    assert not end.value.code
    print(sorted((tmp_path / "out").rglob("*")))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda p: p.name)
def test_they_are_short(path):
    assert len(path.read_text().splitlines()) < 60
