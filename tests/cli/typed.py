"""Commands as a user types them, in this process."""

import pytest

from twostroke.cli import main

QUICK = ["--epochs", "2", "--batch-size", "40", "--lr", "0.05"]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, what was printed, and what was complained of."""
    code = 0
    try:
        main([str(a) for a in arguments])
    except SystemExit as stop:
        code = stop.code or 0
    out, err = capsys.readouterr()
    return code, out, err


def words(text: str) -> str:
    """A text without the frames and line ends that a terminal's width brings."""
    return " ".join(text.translate(dict.fromkeys(map(ord, "│╭╮╰╯─"), " ")).split())
