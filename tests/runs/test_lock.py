"""One process at a time in a folder: refused by name, and free again however that process ends."""

import os
import re
import signal

import pytest

from tests.training.faults import in_a_child
from twostroke.errors import RunFolderError
from twostroke.runs import RunFolder, alone


def test_another_process_is_refused_and_the_same_one_is_not(tmp_path):
    def tries():
        words = f"at work in {re.escape(str(tmp_path))}: wait"
        with pytest.raises(RunFolderError, match=words), alone(tmp_path):
            pass

    with alone(tmp_path), alone(tmp_path):
        assert in_a_child(tries) == 0
    assert list(tmp_path.iterdir()) == []

    def enters():
        with alone(tmp_path):
            pass

    assert in_a_child(enters) == 0
    enters()


def test_a_run_that_is_refused_takes_nothing_from_the_one_at_work(tmp_path):
    run = RunFolder.create(tmp_path, {"command": "dsd"})
    run.beginning_file.write_text("{}")

    def refused():
        with pytest.raises(RunFolderError, match="at work"):
            run.discard()

    with alone(tmp_path):
        assert in_a_child(refused) == 0
    assert run.beginning_file.exists()
    run.discard()
    assert not tmp_path.exists()


def test_the_lock_dies_with_its_process(tmp_path):
    def dies():
        with alone(tmp_path):
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_child(dies) == signal.SIGKILL
    with alone(tmp_path):
        pass


def test_a_child_that_outlives_its_parents_block_does_not_keep_the_lock(tmp_path):
    here, there = os.pipe()
    with alone(tmp_path):
        child = os.fork()
        if child == 0:  # such as a worker that loads images, of a run that was killed
            os.write(there, b"x")
            signal.pause()
        os.read(here, 1)
    try:
        with alone(tmp_path):
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(here)
        os.close(there)


def test_two_runs_that_begin_at_once(tmp_path, monkeypatch):
    """The first makes its folder just as the second has looked whether it is vacant."""
    real = RunFolder.check_vacant

    def looks(self, config=None):
        real(self, config)
        monkeypatch.setattr(RunFolder, "check_vacant", real)
        RunFolder.create(tmp_path / "run", {"seed": 1})

    monkeypatch.setattr(RunFolder, "check_vacant", looks)
    with pytest.raises(RunFolderError, match="another run has just begun there"):
        RunFolder.create(tmp_path / "run", {"seed": 2})
    assert RunFolder(tmp_path / "run").config() == {"seed": 1}


def test_what_another_process_uses_is_neither_cleared_nor_discarded(tmp_path):
    run = RunFolder.create(tmp_path / "run", {"seed": 1})
    (run.path / "support-1.safetensors").touch()

    def tries():
        for what in (run.clear, run.discard):
            with pytest.raises(RunFolderError, match="another process is at work"):
                what()

    with alone(run.path):
        assert in_a_child(tries) == 0
    assert run.config() == {"seed": 1}
    assert (run.path / "support-1.safetensors").exists()


def test_a_folder_that_cannot_be_written_is_left_as_it_was(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("twostroke.runs.folder.tomli_w.dumps", full)
    with pytest.raises(RunFolderError, match=r"cannot be written.*No space left"):
        RunFolder.create(tmp_path / "run", {})
    assert not (tmp_path / "run").exists()
