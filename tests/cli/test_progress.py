"""Bars on a terminal, lines elsewhere."""

import io

from rich.console import Console

from tests.toy import toy_record
from twostroke.alternation import Phase
from twostroke.cli.progress import RunBars, reading
from twostroke.training import Progress


def shown(terminal):
    """What a run of two parts leaves on the screen."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, color_system=None)
    with RunBars(console, "whole") as bars:
        bars.note("masks are kept in host memory")
        for part in ("first", "second"):
            bars.part(part)
            for step in (1, 2):
                bars.step(Progress(epoch=0, epochs=1, step=step, steps=2, phase=Phase.HELD))
            bars.epoch(toy_record(error=7.25, drift=0.125, loss_live=0.5, loss_held=0.25))
    assert bars.told == ["masks are kept in host memory"]
    return text.getvalue()


def test_without_a_terminal_an_epoch_is_a_line():
    note, first, second = shown(False).splitlines()
    assert note == "masks are kept in host memory"
    words = " ".join(first.split())
    assert words == ("first epoch 1 held error 7.25 % loss 0.5000 held 0.2500 drift 12.5 % 0.5 s")
    assert second.startswith("second ")


def test_on_a_terminal_each_part_has_a_bar_that_stays():
    text = shown(True)
    for part in ("first", "second"):
        assert part in text
    assert "2/2" in text
    assert "epoch 1/1 held" in text
    assert "loss 0.5000" not in text  # a bar, and no lines beside it


def test_what_was_not_measured_is_left_out():
    text = io.StringIO()
    bars = RunBars(Console(file=text, width=100), "run")
    bars.epoch(toy_record(loss_held=None, drift=None))
    assert "held  0" not in text.getvalue()
    assert "held 0" not in text.getvalue()
    assert "drift" not in text.getvalue()


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
