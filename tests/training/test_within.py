"""Stopped within an epoch, a run goes on from that step, and ends with the bits of an unbroken one."""

import os
import signal
import threading

import pytest

import twostroke as ts
from tests.listening import told as listening
from tests.toy import toy_data, toy_net
from twostroke.data import FlipShift
from twostroke.errors import RunFolderError
from twostroke.runs import resumable
from twostroke.training.loop import Loop

from .faults import run, told

EPOCHS = 3


class Stop:
    """Raises at a step, as Ctrl-C does; afterwards says where the run went on."""

    def __init__(self, epoch, step):
        self.at, self.first = (epoch, step), None

    def __call__(self, where):
        self.first = self.first or (where.epoch, where.step)
        if (where.epoch, where.step) == self.at:
            raise KeyboardInterrupt


KINDS = {
    "live": lambda: None,
    "batch": lambda: ts.BatchWise(warmup=1),
    "sweep, memory": lambda: ts.InstanceWise(warmup=1, gap=1, store="host"),
    "sweep, file": lambda: ts.InstanceWise(warmup=1, gap=1, store="file"),
    # drift is looked at within an epoch, and ends strokes there
    "drift": lambda: ts.InstanceWise(warmup=0, gap=3, drift=0.02, checks=4, momentum="reset"),
}


def trained(kind, folder=None, **options):
    return ts.fit(
        toy_net(seed=0, norm=True, dropout=0.2),
        toy_data(augmentation=FlipShift(shift=1)),
        alternation=KINDS[kind](),
        epochs=EPOCHS,
        batch_size=20,
        lr=0.02,
        ema_decay=0.9,
        probe=40,
        optimizer="adamw",
        folder=folder,
        resume=folder is not None and resumable(folder),
        **options,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_where_it_was_stopped(kind, tmp_path):
    whole = told(trained(kind))
    # in the first epoch, after the last step of one, and twice in one
    for epoch, step in ((0, 3), (1, 8), (2, 1), (2, 5)):
        stop = Stop(epoch, step)
        result = trained(kind, tmp_path, listener=listening(step=stop))
        assert result.detail == f"in epoch {epoch + 1} of 3, of which {step} of 8 steps are kept"
    stop = Stop(None, None)
    result = trained(kind, tmp_path, listener=listening(step=stop))
    assert stop.first == (2, 6)
    assert told(result) == whole
    assert not (tmp_path / "within.safetensors").exists()


def test_an_epoch_that_records_its_masks_begins_again(tmp_path):
    """Masks that are half recorded are none: that epoch starts from its beginning."""
    whole = told(run(tmp_path / "whole", refresh="online", store="file"))
    for epoch, kept in ((1, False), (2, True)):
        stop = Stop(epoch, 4)
        result = run(tmp_path / "a", refresh="online", store="file", listener=listening(step=stop))
        assert ("are kept" in result.detail) == kept
    assert told(run(tmp_path / "a", refresh="online", store="file")) == whole


def test_a_checkpoint_comes_when_it_is_time(tmp_path, monkeypatch):
    kept = []
    pause = Loop.pause

    def counted(self):
        kept.append(self.part.step)
        return pause(self)

    monkeypatch.setattr(Loop, "pause", counted)
    assert trained("live", tmp_path / "a", checkpoint_minutes=0).ok
    assert kept == EPOCHS * list(range(1, 9))
    kept.clear()
    assert trained("live", tmp_path / "b", checkpoint_minutes=None).ok
    assert not kept


def test_the_last_whole_epoch_stays_beside(tmp_path):
    """A run that diverges after it went on within an epoch has the weights of the last good one."""
    good = trained("live", tmp_path, listener=listening(epoch=lambda record: interrupt()))
    stop = Stop(1, 3)
    trained("live", tmp_path, listener=listening(step=stop))

    def infinite(loss, target):
        return (loss * float("nan")).sum()

    result = trained("live", tmp_path, loss=infinite)
    assert result.status == "diverged"
    assert told(result) == told(good)


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("kind", "damaged"),
    [
        ("sweep, memory", "support-2.safetensors"),
        ("sweep, file", "support-2.store"),
        ("live", "within.safetensors"),
    ],
)
def test_a_damaged_one_falls_back_to_the_last_whole_epoch_and_says_so(tmp_path, kind, damaged):
    whole = told(trained(kind))
    # where the second round of masks begins in that epoch
    trained(kind, tmp_path, listener=listening(step=Stop(2, 3)))
    path = tmp_path / damaged
    path.write_bytes(path.read_bytes()[:-9])
    stop = Stop(None, None)
    result = trained(kind, tmp_path, listener=listening(step=stop))
    assert stop.first == (2, 1)
    assert any(damaged in note and "last whole epoch" in note for note in result.notes)
    assert told(result) == whole


def test_a_damaged_one_in_the_first_epoch_is_named(tmp_path):
    trained("live", tmp_path, listener=listening(step=Stop(0, 3)))
    (tmp_path / "within.safetensors").write_bytes(b"weights, honestly")
    with pytest.raises(RunFolderError, match=r"within\.safetensors"):
        trained("live", tmp_path)


def test_ctrl_c_waits_for_the_end_of_a_step(tmp_path, monkeypatch):
    whole = told(trained("live"))
    before = signal.getsignal(signal.SIGINT)
    cast, calls = Loop._cast, []

    def stopped(self):
        calls.append(None)
        if len(calls) == 13:  # within a step of the second epoch
            os.kill(os.getpid(), signal.SIGINT)
        return cast(self)

    with monkeypatch.context() as patched:
        patched.setattr(Loop, "_cast", stopped)
        result = trained("live", tmp_path)
    assert result.status == "interrupted"
    assert "of which 5 of 8 steps are kept" in result.detail
    assert signal.getsignal(signal.SIGINT) is before
    assert told(trained("live", tmp_path)) == whole


def test_the_second_one_does_not_wait(tmp_path, monkeypatch):
    cast = Loop._cast

    def stopped(self):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    with monkeypatch.context() as patched:
        patched.setattr(Loop, "_cast", stopped)
        result = trained("live", tmp_path)
    assert (result.status, result.detail) == ("interrupted", "in epoch 1 of 3")
    assert not resumable(tmp_path)
    assert Loop._cast is cast


def test_beside_the_main_thread_signals_are_left_alone():
    results = []
    thread = threading.Thread(target=lambda: results.append(trained("live")))
    thread.start()
    thread.join()
    assert results[0].ok
