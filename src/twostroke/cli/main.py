"""Dispatch to the commands; errors become one line and an exit code.

Exit codes: 0 done, 1 a run diverged, 2 bad input, a damaged file or a full disk (the message names culprit
and fix), 3 a process of the run was lost, 130 stopped by Ctrl-C or, in training, by SIGTERM. Of several
processes one prints, unless another one is lost.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from .._version import __version__
from ..errors import ElsewhereError, ProcessError, TwostrokeError, UnknownNameError, unknown

DESCRIPTION = """Which ReLU units of a network are on, one bit a unit, is its support. By that of a trained
network a smaller one learns, from a few pictures without labels. Supports are held, trained with, studied."""


class Command(NamedTuple):
    """Where a command is, and what it does in one line. With `config` its options are that dataclass."""

    module: str
    function: str
    does: str
    config: str | None = None

    def options(self) -> Any:
        """The dataclass of its options; not for a command without one."""
        assert self.config is not None
        return getattr(import_module(f".{self.module}", __package__), self.config)


COMMANDS = {
    "demo": Command("demo", "demo", "alternation and given supports on real digits"),
    "train": Command(
        "train", "train", "train a model, and keep the run in a folder", "TrainConfig"
    ),
    "distill": Command(
        "distill", "distill", "a network from the supports of another, few images", "DistillConfig"
    ),
    "guide": Command("guide", "guide", "a file of given supports, to train from elsewhere"),
    "dsd": Command("dsd", "dsd", "dense-sparse-dense training", "DsdConfig"),
    "predict": Command("predict", "predict", "what pictures show, by the model of a run"),
    "evaluate": Command("evaluate", "evaluate", "the error of a run's model, class by class"),
    "export": Command("export", "export", "a run's model as a file for other programs"),
    "compare": Command("compare", "compare", "a table and curves of finished runs"),
    "reproduce": Command("reproduce", "reproduce", "the paper's tables and figures by name"),
    "explain": Command("explain", "explain", "which pixels a logit comes from, exactly"),
    "study": Command("study", "study", "what a network's units do on many examples, in pictures"),
    "sites": Command("listing", "sites", "what would be held in a model, and what it takes"),
    "models": Command("listing", "models", "models by name"),
    "rip": Command("theory", "rip", "the paper's condition on the lifted operator, measured"),
    "recover": Command("theory", "recover", "recovery of weights from known supports"),
}


def _speaks() -> bool:
    if "RANK" not in os.environ:  # without loading anything
        return True
    from ..processes import speaks

    return speaks()


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.does}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: twostroke COMMAND [OPTIONS]",
            "",
            DESCRIPTION,
            "",
            *lines,
            "",
            "twostroke COMMAND --help lists a command's options; twostroke --version says which this is.",
        ]
    )


def _run(name: str, arguments: Sequence[str], loud: bool) -> Any:
    command = COMMANDS[name]
    function = getattr(import_module(f".{command.module}", __package__), command.function)
    if command.config is not None:
        from .options import parse

        return function(parse(command.options(), f"twostroke {name}", arguments, loud))
    import tyro

    from .options import registry
    from .prose import flow

    flow(function)
    with registry:
        return tyro.cli(
            function, prog=f"twostroke {name}", args=list(arguments), console_outputs=loud
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] in (["--version"], ["-V"]):
        print(f"twostroke {__version__}")
        return
    if not given or given[0] in ("--help", "-h"):
        print(_help())
        return
    loud = _speaks()
    try:
        if given[0] not in COMMANDS:
            raise UnknownNameError(unknown("command", given[0], COMMANDS))
        code = _run(given[0], given[1:], loud)
    except ElsewhereError:
        sys.exit(2)  # said where it happened
    except ProcessError as error:
        print(f"twostroke: {error}", file=sys.stderr)
        _leave(3)
    except TwostrokeError as error:
        if loud or getattr(error, "agreed", False):
            print(f"twostroke: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if loud:
            print("twostroke: stopped", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # `twostroke models | head`
        sys.stderr.close()
        sys.exit(0)
    if code == 130 and "RANK" in os.environ:
        _leave(code)
    sys.exit(code or 0)


def _leave(code: int) -> None:
    """Leave one of several processes at once: threads of the backend may still wait for one that is gone.

    As Python ends, such a thread may let go of a tensor, for which it needs Python, and ends all by SIGABRT.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
