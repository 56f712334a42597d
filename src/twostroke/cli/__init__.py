"""The command line: `twostroke COMMAND`, also as `python -m twostroke COMMAND`.

`main` dispatch and errors · `options` a command's options, from the command line and from TOML files, with
`spelling` for values that are written as text · `running` how commands that train begin and end, with bars in
`progress` · a file for each command.
"""

from .main import main

__all__ = ["main"]
