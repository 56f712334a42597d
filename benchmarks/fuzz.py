"""Altered files and drawn command lines, for a time: python benchmarks/fuzz.py --seconds 600.

Every file that this program reads is made, altered by bytes and by what its headers say (with checksums put
right again), and read as a user would. Commands get drawn options. Each must end well, or with an error of this
program that names file or option; anything else is a fault, and so are half a minute of computing and 12 GB of
memory.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import io
import itertools
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

from common import parser_of, write
from fuzz_files import HOSTILE, TARGETS
from twostroke.cli import main as command_line
from twostroke.cli.main import COMMANDS
from twostroke.errors import TwostrokeError

# -- command lines -----------------------------------------------------------------------------------


def options_of(command: str) -> list[str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        command_line([command, "--help"])
    return sorted(set(re.findall(r"--[a-z][a-z.-]+", out.getvalue())))


WORDS = [str(v) for v in HOSTILE if "\0" not in str(v)] + [
    *(
        "npz:nowhere.npz",
        "folder:nowhere",
        "cpu",
        "cuda:7",
        "instance",
        "batch",
        "resnet18",
        "mnist-12k",
        "table2",
    ),
    *(
        "0.5",
        "10",
        "nan",
        "inf",
        "-inf",
        "1e-300",
        "1_000",
        "0x10",
        "١",
        "--",
        "-",
        "=",
        "a=b",
        "momentum=2",
    ),
]
STUBBED = (
    "demo",
    "rip",
    "recover",
    "reproduce",
    "guide",
)  # would work for long: only their options are read


def drawn_line(draw: random.Random, known: dict[str, list[str]]) -> list[str]:
    command = draw.choice(list(COMMANDS))
    line = [command]
    if command in ("train", "dsd"):  # no work is done, since there are no data
        line += ["--data", "npz:nowhere.npz"]
    if draw.random() < 0.7 and "--out" in known[command]:
        line += ["--out", "out"]
    for _ in range(draw.randrange(5)):
        option = draw.choice([*known[command], *known[command], "--x", "-h"])
        line.append(draw.choice([option, option, option, option[:-1], option.upper()]))
        if draw.random() < 0.9:
            line.append(draw.choice(WORDS))
        if draw.random() < 0.1:
            line[-1] = f"{option}={draw.choice(WORDS)}"
    draw.random() < 0.2 and line.append(draw.choice(WORDS))
    return line


def run_line(line: list[str]) -> str:
    """How a command ended; raises what would be a traceback."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            command_line(line)
        except SystemExit as end:
            if end.code not in (0, None, 2):
                raise RuntimeError(f"exit code {end.code}") from end
            if end.code == 2 and not said.getvalue().strip():
                raise RuntimeError("no word of what is wrong") from end
            return "refused" if end.code else "read"
    return "read"


# -- the fuzz ---------------------------------------------------------------------------------------


class Hang(BaseException):
    """It computes for too long."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """`Hang` after so many seconds of computing."""

    def stop(*_: object) -> None:
        raise Hang(f"{seconds} s of computing")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Fault(NamedTuple):
    target: str
    seed: int
    what: str


def tried(name: str, seed: int, work: Callable[[], object]) -> str | Fault:
    """ "read", "refused", or a fault."""
    try:
        with limited(30):
            found = work()
        return found if isinstance(found, str) else "read"
    except TwostrokeError as error:
        return "refused" if str(error).strip() else Fault(name, seed, "an error without words")
    except (Exception, Hang) as error:
        at = error.__traceback__
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        where = f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at else ""
        return Fault(name, seed, f"{type(error).__name__}: {str(error)[:200]} ({where})")


def one_file(name: str, seed: int, place: Path, good: dict[str, Path]) -> str | Fault:
    """Alter a fresh copy of a good file, and read it."""
    target = TARGETS[name]
    if name not in good:
        (place / "good" / name).mkdir(parents=True)
        good[name] = target.make(place / "good" / name)
        target.read(good[name])
    copy = place / "altered"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(place / "good" / name, copy)
    path = copy / good[name].relative_to(place / "good" / name)
    target.alter(random.Random(f"{name} {seed}"), path)
    return tried(name, seed, lambda: target.read(path))


@contextlib.contextmanager
def stubbed() -> Iterator[dict[str, list[str]]]:
    """Commands that would work for long do nothing; gives the options of each."""
    with contextlib.ExitStack() as stack:
        for name in STUBBED:
            command = COMMANDS[name]
            module = importlib.import_module(f"twostroke.cli.{command.module}")
            real = getattr(module, command.function)
            nothing = functools.wraps(real)(lambda *_, **__: 0)
            stack.enter_context(mock.patch.object(module, command.function, nothing))
        yield {name: options_of(name) for name in COMMANDS}


def fuzz(
    seeds: Iterator[int], names: Sequence[str], seconds: float = 1e9
) -> tuple[Counter[Any], list[Fault]]:
    """Try every seed with every kind of file and a command line, until the time is over."""
    counts: Counter[Any] = Counter()
    faults: list[Fault] = []
    end, here = time.monotonic() + seconds, Path.cwd()
    with tempfile.TemporaryDirectory() as folder, stubbed() as known:
        place, good = Path(folder), {}
        (place / "work").mkdir()
        os.chdir(place / "work")
        try:
            for seed, name in ((seed, name) for seed in seeds for name in names):
                if time.monotonic() > end:
                    break
                if name == "command line":
                    line = drawn_line(random.Random(seed), known)
                    found = tried(f"{name} {line}", seed, lambda line=line: run_line(line))
                else:
                    found = one_file(name, seed, place, good)
                if isinstance(found, Fault):
                    faults.append(found)
                    print(found, flush=True)
                counts[name, found if isinstance(found, str) else "fault"] += 1
        finally:
            os.chdir(here)
    return counts, faults


EVERY = [*TARGETS, "command line"]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", choices=EVERY, help="one kind of input")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    resource.setrlimit(
        resource.RLIMIT_AS, (12 << 30, 12 << 30)
    )  # an error, not the end of the machine
    names = [options.only] if options.only else EVERY
    counts, faults = fuzz(itertools.count(options.first_seed), names, options.seconds)
    table = {name: {k: counts[name, k] for k in ("read", "refused", "fault")} for name in names}
    for name, row in table.items():
        print(f"{name:<22} {row}")
    write(options.out, options, results=table, faults=[f._asdict() for f in faults])
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
