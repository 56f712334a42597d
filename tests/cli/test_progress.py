"""Lines everywhere, and a bar on a terminal."""

import io

from rich.console import Console

from tests.toy import toy_record
from twostroke.alternation import Phase
from twostroke.cli.progress import RunBars, reading
from twostroke.training import Progress


def lines(*records, terminal=False, **options):
    """What a run of two parts leaves on the screen."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=200, color_system=None)
    with RunBars(console, "whole", **options) as bars:
        bars.note("masks are kept in [host] memory")
        for part in ("first", "second"):
            bars.part(part)
            for step in (1, 2):
                bars.step(Progress(epoch=0, epochs=3, step=step, steps=2, phase=Phase.HELD))
            for record in records:
                bars.epoch(record)
    assert bars.told == ["masks are kept in [host] memory"]
    return text.getvalue()


LIVE = toy_record(
    round=0,
    error=7.25,
    loss_train=0.25,
    loss_test=0.75,
    error_average=None,
    loss_held=None,
    drift=None,
)


def test_an_epoch_is_a_line_that_says_train_and_test():
    note, *rest = lines(LIVE).splitlines()
    assert note == "masks are kept in [host] memory"
    told = "epoch 1/3  train: loss 0.2500, 500 ms  test: error 7.25 %, loss 0.7500, 500 ms"
    assert rest == ["first", told, "second", told]


def test_what_was_held_is_told_and_what_is_live():
    record = toy_record(error=7.25, drift=0.125, loss_live=0.5, loss_held=0.25, held_steps=1)
    line = lines(record, tested="differs").splitlines()[2]
    assert "differs, live: error 7.25 %, loss 0.5000" in line
    assert "average: error 0.50 %" in line
    assert line.endswith("held: 1/2 steps, train loss 0.2500, live 0.5000, drift 12.5 %")


def test_on_a_terminal_lines_stay_above_a_bar():
    text = lines(LIVE, terminal=True)
    assert text.count("train: loss 0.2500") == 2
    assert "2/6 steps  epoch 1/3, evaluation" in text
    assert " left" in text


def test_an_alarming_loss_is_explained_once():
    lagging = toy_record(round=0, loss_train=0.9, loss_live=175417.0, loss_test=200000.0, steps=3)
    text = lines(lagging, lagging)
    assert "loss 200,000" in text
    assert text.count("The loss is 175,417 in evaluation mode") == 1
    assert "where training itself has 0.9000" in text
    assert "(3 so far)" in text
    assert "evaluation mode" not in lines(toy_record(loss_train=1e-3, loss_live=5.0))


def test_work_before_training_has_a_bar_of_its_own():
    text = io.StringIO()
    with RunBars(Console(file=text, width=100), "") as bars:
        bars.step(Progress(epoch=0, epochs=1, step=9, steps=9, phase=Phase.RECORDING))
        for step in (1, 2):
            bars.step(Progress(epoch=0, epochs=2, step=step, steps=4, phase=Phase.LIVE))
        assert bars._bar.tasks[0].completed == 2
        assert bars._bar.tasks[0].total == 8
        assert "left" in bars._bar.tasks[0].fields["text"]
    assert text.getvalue() == ""


def test_reading_is_a_bar_or_a_line_where_there_is_no_terminal(monkeypatch):
    for terminal in (True, False):
        for patience in (0.0, 60.0):
            monkeypatch.setattr("twostroke.cli.progress._PATIENCE", patience)
            console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
            with reading(console) as told:
                for done in (1000, 2000):
                    told("reading pictures", done, 3000)
            text = console.file.getvalue()
            assert (text == "reading pictures: 1,000 of 3,000\n") == (not terminal and not patience)
            assert ("2000/3000" in text) == terminal
