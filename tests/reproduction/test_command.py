"""`twostroke reproduce` as a user types it."""

import importlib
import os
import signal

import pytest

from tests.cli.typed import run
from twostroke.reproduction import driver

pytestmark = pytest.mark.usefixtures("small_nets")
reproduce_command = importlib.import_module("twostroke.cli.reproduce")


def test_the_command(capsys, digits, tmp_path):
    code, out, _ = run(
        capsys, "reproduce", "figure1", "--data", f"mnist={digits}", "--out", tmp_path / "a"
    )
    assert code == 0
    assert "1/2 mnist-nin sgd 0: error" in out
    assert "left" in out
    assert "figure1.md" in out
    code, out, _ = run(
        capsys, "reproduce", "table5", "--data", f"mnist={digits}", "--out", tmp_path / "a"
    )
    assert "kept from before" in out
    code, _, err = run(capsys, "reproduce", "figure1", "--data", "mnist=", "--out", tmp_path / "b")
    assert code == 2
    assert "SET=NAME" in err


def test_the_command_stopped(capsys, digits, tmp_path, monkeypatch):
    ended = []

    def stop(self, number, count, cell, kept, left):
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    arguments = "reproduce", "figure1", "--data", f"mnist={digits}", "--out", tmp_path
    with monkeypatch.context() as patch:
        patch.setattr(reproduce_command._Bars, "begin", stop)
        patch.setattr(reproduce_command._Bars, "end", lambda self, result: ended.append(result))
        code, out, _ = run(capsys, *arguments)
    assert code == 130
    assert len(ended) == 1
    assert f"written up in {tmp_path / 'figure1.md'}; the same command goes on" in out
    with monkeypatch.context() as patch:  # nothing is finished when the data are loaded
        patch.setattr(driver, "_load", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        code, out, _ = run(capsys, *arguments)
    assert code == 130
    assert "Stopped before any training" in out
