"""Dispatch, help, and what is told before any work."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import twostroke
from twostroke import cli
from twostroke.cli.main import COMMANDS

from .typed import run


def test_help_names_every_command(capsys):
    for asked in ([], ["--help"], ["-h"]):
        code, out, err = run(capsys, *asked)
        assert (code, err) == (0, "")
        listed = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
        assert listed == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"usage: twostroke {command}" in out


def test_brackets_are_never_taken_for_markup():
    """A class, a file or an extra may have brackets in its name."""
    for file in Path(cli.__file__).parent.glob("*.py"):
        for call in re.findall(r"\bConsole\((.*?)\)", file.read_text()):
            assert "markup=False" in call, file


def test_version(capsys):
    assert run(capsys, "--version")[1].startswith("twostroke 0.")
    assert run(capsys, "-V") == run(capsys, "--version")


def test_import_is_light():
    """PyTorch is not loaded for help, nor pictures, data sets and the command line before they are needed."""
    code = """if True:
        import sys
        from twostroke.cli import main
        main(["--help"])
        assert "torch" not in sys.modules
        import twostroke
        assert twostroke.hold
        heavy = {"matplotlib", "torchvision", "tyro", "rich", "PIL", "timm", "accelerate"}
        assert not heavy & sys.modules.keys()"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_the_package_shows_its_names():
    names = twostroke.__all__
    assert {"hold", "fit", "theory", *names} <= set(dir(twostroke))
    assert all(hasattr(twostroke, name) for name in names)
    with pytest.raises(AttributeError, match="'twostroke' has no attribute 'holt'"):
        _ = twostroke.holt


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["trian"], "there is no command 'trian', did you mean 'train'?"),
        (["xyz"], "there is no command 'xyz': there are demo, train"),
        (["models", "--pattern", "resnt*"], "no model matches 'resnt*'"),
        (["train"], "say where the run is to go: --out runs/NAME"),
        (["dsd"], "say where the run is to go: --out runs/NAME"),
    ],
)
def test_slips_are_one_line_and_exit_code_2(capsys, arguments, text):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert text in err
    assert err.count("\n") == 1
