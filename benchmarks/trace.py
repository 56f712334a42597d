"""Whether the numbers on a page are those of the results that it links to: python benchmarks/trace.py

A block of README.md or docs/ (a paragraph, a point of a list, a table with the paragraph before it) that links
to folders of `results/` is checked: each of its numbers with a decimal point must stand in a README of these
folders, or be a number of their files, rounded. Prints what does not, and ends with 1.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)#\s]*benchmarks/results/[^)#\s]+)\)")
NUMBER = re.compile(r"(?<![\w.,-])\d[\d,]*\.\d+(?![\w.]*\()")


def blocks(text: str) -> Iterator[str]:
    """Paragraphs, points of lists, and tables together with what stands before them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    parts = re.split(r"\n\s*\n|\n(?=\s*- )", text)
    for before, part in zip(["", *parts], parts, strict=False):
        yield f"{before}\n{part}" if part.lstrip().startswith("|") else part


def numbers_in(value: object) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from numbers_in(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def known(folder: Path) -> tuple[set[str], list[float]]:
    """Numbers as its pages write them, and those of its files."""
    written: set[str] = set()
    for page in folder.rglob("*.md"):
        written |= set(re.findall(r"\d[\d,]*(?:\.\d+)?", page.read_text()))
    found = [n for file in folder.rglob("*.json") for n in numbers_in(json.loads(file.read_text()))]
    return written, found


def untraced(page: Path) -> list[str]:
    """Numbers of a page that none of the results that stand beside them has."""
    wrong = []
    for block in blocks(page.read_text()):
        folders = {_folder(page, target) for target in LINK.findall(block)}
        if not folders:
            continue
        have = [known(folder) for folder in folders]
        for token in NUMBER.findall(re.sub(r"\]\([^)]*\)", "]", block)):
            places = len(token.split(".")[1])
            number = float(token.replace(",", ""))
            if any(token in written for written, _ in have):
                continue
            near = (abs(scale * n - number) for _, all_ in have for n in all_ for scale in (1, 100))
            if not any(gap <= 0.5000001 * 10**-places for gap in near):
                told = ", ".join(sorted(f.name for f in folders))
                wrong.append(f"{page.relative_to(ROOT)}: {token} is not in {told}")
    return wrong


def _folder(page: Path, target: str) -> Path:
    path = (page.parent / target).resolve()
    return path.parent if path.suffix else path


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
