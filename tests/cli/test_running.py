"""How every command that trains begins and ends: with results that are made up."""

import io
import os
import signal
from dataclasses import replace

import pytest
from rich.console import Console
from torch import nn

from tests.toy import toy_data, toy_record
from twostroke.cli.running import carry_out, stoppable
from twostroke.errors import SettingsError
from twostroke.outcome import Status
from twostroke.runs import History, RunFolder
from twostroke.training import FitResult


class Carried:
    """`carry_out` in a folder, and what came of it."""

    def __init__(self, folder, work, **options):
        text = io.StringIO()
        self.run = RunFolder(folder)
        self.result, self.code = carry_out(
            work,
            self.run,
            Console(file=text, width=200),
            command="train",
            **options,
        )
        self.text = text.getvalue()
        self.files = {p.name for p in folder.iterdir()}


def result(status, epochs=1, **told):
    history = History(toy_record(epoch=k + 1, error=7.25, held_steps=15) for k in range(epochs))
    return FitResult(status=status, model=nn.Linear(1, 1), history=history, **told)


KEPT = {"metrics.csv", "model.safetensors"}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.FINISHED, 0),
        (Status.TARGET, 0),
        (Status.DIVERGED, 1),
        (Status.INTERRUPTED, 130),
    ],
)
def test_what_came_out_is_kept_and_told(tmp_path, status, code):
    done = Carried(tmp_path, lambda bars: result(status, detail="in epoch 1"), alternates=True)
    assert done.code == code
    assert done.files == KEPT
    assert f"{status} (in epoch 1): " in done.text
    assert f"live test error 7.25 %; everything is in {tmp_path}" in done.text
    assert "500 ms of training, 500 ms of evaluation, 50 % of the steps held" in done.text
    go_on = f"go on with: twostroke train --resume {tmp_path}"
    assert (go_on in done.text) == (status is Status.INTERRUPTED)


def test_a_run_without_a_whole_epoch_and_its_average(tmp_path):
    done = Carried(
        tmp_path, lambda bars: result(Status.DIVERGED, epochs=0, average=nn.Linear(1, 1))
    )
    assert "no epoch was completed" in done.text
    assert done.files == {*KEPT, "average.safetensors"}


@pytest.mark.usefixtures("pages")
def test_the_report_knows_what_the_model_answers_unless_it_was_stopped(tmp_path):
    source = toy_data().test
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))

    def work(status):
        return lambda bars: replace(result(status), model=net)

    done = Carried(tmp_path, work(Status.FINISHED), test=source, note="80 toys")
    assert done.files == {*KEPT, "answers.safetensors", "curves.png", "report.html"}
    page = (tmp_path / "report.html").read_text()
    assert "80 toys" in page
    assert "finished: All epochs were run." in page
    assert "of 80 test examples" in page
    done = Carried(
        tmp_path, work(Status.INTERRUPTED), test=source
    )  # the answers are of other weights
    assert "answers.safetensors" not in done.files
    assert "test examples" not in (tmp_path / "report.html").read_text()


def test_a_note_is_told_once(tmp_path):
    def work(bars):
        bars.note("before training")
        return result(Status.FINISHED, notes=["before training", "after it"])

    text = Carried(tmp_path, work).text
    assert text.count("before training") == 1
    assert text.count("after it") == 1


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_stopped_before_there_is_a_result(tmp_path, sent):
    done = Carried(tmp_path, lambda bars: os.kill(os.getpid(), sent))
    assert (done.result, done.code) == (None, 130)
    assert done.files == set()
    assert f"twostroke train --resume {tmp_path}" in done.text


def test_an_error_discards_the_folder_and_goes_on_its_way(tmp_path):
    def refuse(bars):
        raise SettingsError("no")

    discarded = []
    with pytest.raises(SettingsError):
        Carried(tmp_path, refuse, discard=lambda: discarded.append(True))
    assert discarded == [True]


def test_of_several_processes_the_main_one_writes(tmp_path):
    done = Carried(tmp_path, lambda bars: result(Status.FINISHED), main=False)
    assert done.code == 0
    assert done.files == set()


def test_sigterm_is_as_before_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"), stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
