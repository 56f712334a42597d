"""Dispatch to the commands; errors become one line and an exit code.

Exit codes: 0 done, 1 a run diverged, 2 bad input (the message names culprit and fix), 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from .._version import __version__
from ..errors import TwostrokeError

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    import tyro

    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--version"], ["-V"]):
        print(f"twostroke {__version__}")
        return
    try:
        code = tyro.extras.subcommand_cli_from_dict(
            _commands(), prog="twostroke", description=DESCRIPTION, args=given or ["--help"]
        )
    except TwostrokeError as error:
        print(f"twostroke: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("twostroke: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `twostroke models | head`
        sys.stderr.close()
        sys.exit(0)
    sys.exit(code or 0)
