"""The command line: `twostroke COMMAND`, also as `python -m twostroke COMMAND`.

`main` dispatch and errors · `demo` · `train` (and `--resume`) · `compare` · `listing` sites and models ·
`progress` bars.
"""

from .main import main

__all__ = ["main"]
