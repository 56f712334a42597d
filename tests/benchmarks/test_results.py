"""Every folder of results says what made it, by a command that still parses; the index is up to date."""

import functools
import importlib
import inspect
import re
from pathlib import Path

import pytest

from twostroke.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(p.name for p in (ROOT / "benchmarks" / "results").iterdir() if p.is_dir())
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def parse_script(script, words: list[str]) -> None:
    path = ROOT / words[0]
    assert path.is_file(), words
    assert path.is_relative_to(ROOT / "benchmarks"), words
    script(path.stem).parse(words[1:])


def parse_command(words: list[str]) -> None:
    """The command line's own parser, in front of a function that does nothing."""
    command = COMMANDS[words[0]]
    module = importlib.import_module(f"twostroke.cli.{command.module}")

    @functools.wraps(getattr(module, command.function))
    def nothing(*_args: object, **_options: object) -> int:
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, command.function, nothing)
        try:
            main(words)
        except SystemExit as end:
            if end.code:
                raise


def parse(script, words: list[str]) -> None:
    if words[0] == "python":
        parse_script(script, words[1:])
    else:
        assert words[0] == "twostroke", words
        parse_command(words[1:])


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_folder_of_a_machine_is_named(folder):
    for file in (ROOT / "benchmarks" / "results" / folder).rglob("*"):
        if file.suffix in (".json", ".md", ".txt", ".csv"):
            found = re.findall(r"(?<![\w.])/(?:tmp|root|home|work)/\S*", file.read_text())
            assert not found, (file.name, found[:3])


@pytest.mark.parametrize("folder", FOLDERS)
def test_recorded_commands_parse(script, folder):
    claim = script("index").read(ROOT / "benchmarks" / "results" / folder)
    assert claim.commands
    for words in claim.commands if claim.tag is None else ():
        parse(script, words)


@pytest.mark.parametrize(
    "words",
    [
        ["python", "benchmarks/speed.py", "stepp"],
        ["python", "benchmarks/speed.py", "step", "--trains", "9"],
        ["python", "benchmarks/convergence.py", "--arms", "sgd", "sgd + running"],
        ["twostroke", "reproduce", "table2", "--scales", "short"],
    ],
)
def test_other_commands_do_not_parse(script, words, capsys):
    with pytest.raises(SystemExit):
        parse(script, words)


@pytest.mark.parametrize("folder", FOLDERS)
def test_readmes_link_to_every_file(folder):
    place = ROOT / "benchmarks" / "results" / folder
    linked = {
        (place / target).resolve() for target in LINK.findall((place / "README.md").read_text())
    }
    assert all(path.exists() for path in linked)
    assert {p for p in place.iterdir() if p.name != "README.md"} <= linked


def test_every_script_but_the_shared_ones_can_be_parsed(script):
    """So that a command is recorded with a script that can be checked."""
    shared = {"common", "index", "convergence_arms", "convergence_table", "fuzz_files"}
    scripts = {p.stem for p in (ROOT / "benchmarks").glob("*.py")} - shared
    for name in sorted(scripts):
        assert list(inspect.signature(script(name).parse).parameters) == ["arguments"], name


def test_the_index_is_up_to_date(script):
    index = script("index")
    assert index.INDEX.read_text() == index.index(), "run python benchmarks/index.py"


def test_a_folder_is_read(script, tmp_path):
    index = script("index")
    readme = tmp_path / "README.md"
    readme.write_text(
        "# A claim\n\nCode: tag `old`.\n\n```sh\npython a.py \\\n  --b 'c d'\n\nx  # y\n```\n"
    )
    claim = index.Claim(tmp_path, "A claim", [["python", "a.py", "--b", "c d"], ["x"]], "old")
    assert index.read(tmp_path) == claim
    readme.write_text("# A claim\n\n```sh\nx\n```\n")
    assert index.read(tmp_path).tag is None
    for text in ("# A claim\n", "```sh\nx\n```\n"):
        readme.write_text(text)
        with pytest.raises(ValueError, match="needs a title and a block of shell commands"):
            index.read(tmp_path)
