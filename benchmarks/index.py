"""The index of the results: python benchmarks/index.py writes benchmarks/results/README.md.

A folder of `results/` holds one claim: the figures as files, and a README.md whose title is the claim and
whose first block of shell commands is what made the figures. Where the code has left the product, a line of
the README says under which tag it is: "Code: tag `levers`."
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).parent / "results"
INDEX = RESULTS / "README.md"
HEAD = """# Results

One folder holds one claim: the command, the machine, the seeds, the table, and the figures as files. Written by
`python benchmarks/index.py`. "Now" means that the command runs with the code as it is; a tag has the code of
the others.

| claim | folder | code |
|---|---|---|
"""


class Claim(NamedTuple):
    folder: Path
    title: str
    commands: list[list[str]]  # each cut into words, as a shell does
    tag: str | None  # where the code is that no longer belongs to the product


def claims(results: Path = RESULTS) -> list[Claim]:
    """Raises `ValueError` for a folder whose README has no title or no commands."""
    return [read(folder) for folder in sorted(results.iterdir()) if folder.is_dir()]


def read(folder: Path) -> Claim:
    text = (folder / "README.md").read_text()
    title = re.match(r"# (.+)\n", text)
    block = re.search(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    if title is None or block is None:
        raise ValueError(f"{folder}/README.md needs a title and a block of shell commands (```sh)")
    lines = block[1].replace("\\\n", " ").splitlines()
    tag = re.search(r"^Code: tag `(\S+)`", text, re.MULTILINE)
    commands = [shlex.split(line, comments=True) for line in lines]
    return Claim(folder, title[1], [c for c in commands if c], tag[1] if tag else None)


def index(results: Path = RESULTS) -> str:
    rows = (
        f"| {claim.title} | [{claim.folder.name}]({claim.folder.name}/README.md) | "
        f"{f'tag `{claim.tag}`' if claim.tag else 'now'} |\n"
        for claim in claims(results)
    )
    return HEAD + "".join(rows)


if __name__ == "__main__":
    INDEX.write_text(index())
