"""Whether the numbers on a page are those of the results that it links to: python benchmarks/trace.py

Each number with a decimal point in a block of README.md or docs/ (a paragraph, a point of a list, a row of a
table) must stand in a README of the folders of `results/` that the block links to, or be a number of their
files, rounded. A row without such a link answers for those of the paragraph before its table; what then has
none, but a point, for those of its section's paragraphs, unless the section is of another version (tag
`levers`). Code, headings and versions are left out. Prints what does not hold, and ends with 1.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)#\s]*benchmarks/results/[^)#/\s]+)/[^)\s]*\)")
NUMBER = re.compile(r"(?<![\w.,§-])\d[\d,]*\.\d+(?![\w.]*\()")
VERSION = re.compile(r"(?:Python|[Tt]orch|-pruning|accelerate)[ ≥]+[\d.]+(?: to [\d.]+)?")


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Paragraphs, points of lists, rows of tables, each with the text whose links it answers for."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for section in re.split(r"^#.*", text, flags=re.MULTILINE):
        running = re.sub(r"^\s*[|-].*", "", section, flags=re.MULTILINE)
        whole, before = "" if "tag `levers`" in section else running, ""
        for part in re.split(r"\n\s*\n|\n(?=\s*- )", section):
            table, point = (part.lstrip().startswith(start) for start in ("|", "- "))
            for block in part.splitlines() if table else [part]:
                near = [block, before if table else "", "" if point else whole]
                yield (
                    VERSION.sub("", re.sub(r"`[^`]*`", "", block)),
                    next(filter(LINK.search, near), ""),
                )
            before = part


def numbers_in(value: object) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from numbers_in(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


@cache
def known(folder: Path) -> list[float]:
    """Numbers of a folder: those that its pages write, and those of its files."""
    written = [
        float(n.replace(",", ""))
        for page in folder.rglob("*.md")
        for n in re.findall(r"\d[\d,]*(?:\.\d+)?", page.read_text())
    ]
    files = (json.loads(file.read_text()) for file in folder.rglob("*.json"))
    return written + [abs(n) for file in files for n in numbers_in(file)]


def untraced(page: Path) -> list[str]:
    """Numbers of a page that none of the results that it links to has."""
    wrong = []
    for block, context in blocks(page.read_text()):
        folders = {(page.parent / target).resolve() for target in LINK.findall(context)}
        have = np.array([n for folder in folders for n in known(folder)])
        for token in NUMBER.findall(re.sub(r"\]\([^)]*\)", "]", block)) if folders else []:
            gap = 0.5000001 * 10 ** -len(token.split(".")[1])
            number = float(token.replace(",", ""))
            if min(np.abs(scale * have - number).min() for scale in (1, 100)) > gap:
                told = ", ".join(sorted(f.name for f in folders))
                wrong.append(f"{page.name}: {token} is not in {told}")
    return wrong


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line: none."""
    return argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(arguments)


def main() -> None:
    parse()
    wrong = [line for page in pages() for line in untraced(page)]
    print("\n".join(wrong) or "every number stands in the results that its paragraph links to")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
