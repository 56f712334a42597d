"""Help breaks no line where a docstring does."""

from dataclasses import dataclass, field
from typing import Annotated

import pytest
import tyro

from twostroke.cli import prose

from .typed import run, words


@dataclass
class Inner:
    """Inner ones."""

    depth: int = 0
    """How deep, in
    (very) small steps.

    Or a function."""


@dataclass
class Options:
    """Do something,
    -m times.

    And no more.
    """

    name: str = "x"
    """A name, such as one of
    a, b and
    --not-an-option."""
    inner: Inner = field(default_factory=Inner)


@dataclass
class More(Options):
    """More of them."""

    name: Annotated[str, tyro.conf.arg(metavar="WORD")] = "y"


def command(*, name: str = "x") -> None:
    """Do something,
    -m times.

    Args:
        name: A name, such as one of
            a, b and
            --not-an-option.
    """


@pytest.mark.parametrize("kind", [Options, More, command])
def test_lines_are_joined(capsys, monkeypatch, kind):
    monkeypatch.setenv("COLUMNS", "200")
    prose.flow(kind)
    with pytest.raises(SystemExit):
        tyro.cli(kind, args=["--help"])
    out = capsys.readouterr().out
    assert "A name, such as one of a, b and --not-an-option. (default" in out
    if kind is not More:
        assert "\nDo something, -m times.\n" in out
    if kind is Options:
        assert "\nAnd no more.\n" in out
    if kind is not command:
        assert "How deep, in (very) small steps. (default" in out
        assert "a function" not in out


def test_options_that_take_a_name_say_which(capsys):
    text = words(run(capsys, "train", "--help")[1])
    for option in (
        "--optimizer {sgd,adamw,muon}",
        "--schedule {one-cycle,cosine,step,constant}",
        "--instance.store {auto,device,host,file}",
        "gcn-zca:BIAS sets the filter bias",
    ):
        assert option in text
