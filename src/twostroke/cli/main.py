"""Dispatch to the commands; errors become one line and an exit code.

Exit codes: 0 done, 1 a run diverged, 2 bad input, a damaged file or a full disk (the message names culprit
and fix), 3 a process of the run was lost, 130 stopped by Ctrl-C or, in training, by SIGTERM. Of several
processes one prints, unless another one is lost.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

from .._version import __version__
from ..errors import ElsewhereError, ProcessError, TwostrokeError, UnknownNameError, unknown

DESCRIPTION = """Train convolutional networks in two alternating strokes: find the binary support of every \
unit for every training example, then hold it, so that the network is linear, and descend on the weights."""


def _commands() -> dict[str, Callable[..., Any]]:
    from .compare import compare
    from .demo import demo
    from .dsd import dsd
    from .explain import explain
    from .listing import models, sites
    from .reproduce import reproduce
    from .theory import recover, rip
    from .train import train

    return {
        "demo": demo,
        "train": train,
        "dsd": dsd,
        "compare": compare,
        "reproduce": reproduce,
        "explain": explain,
        "sites": sites,
        "models": models,
        "rip": rip,
        "recover": recover,
    }


def _speaks() -> bool:
    if "RANK" not in os.environ:  # without loading anything
        return True
    from ..training.engine import speaks

    return speaks()


def _check_name(given: Sequence[str], commands: Collection[str]) -> None:
    """Raise `UnknownNameError` with the near match for a command that there is not."""
    if given and not given[0].startswith("-") and given[0] not in commands:
        raise UnknownNameError(unknown("command", given[0], commands))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    import tyro

    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--version"], ["-V"]):
        print(f"twostroke {__version__}")
        return
    loud = _speaks()
    try:
        commands = _commands()
        _check_name(given, commands)
        if given[:1] == ["train"]:
            from .train import spelled_out

            given = ["train", *spelled_out(given[1:])]
        code = tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="twostroke",
            description=DESCRIPTION,
            args=given or ["--help"],
            console_outputs=loud,
        )
    except ElsewhereError:
        sys.exit(2)  # said where it happened
    except ProcessError as error:
        print(f"twostroke: {error}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(3)  # at once: threads of the backend may still wait for the one that is gone
    except TwostrokeError as error:
        if loud or getattr(error, "agreed", False):
            print(f"twostroke: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if loud:
            print("twostroke: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `twostroke models | head`
        sys.stderr.close()
        sys.exit(0)
    sys.exit(code or 0)
