"""Tables of text, for the terminal and for Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table


@dataclass(frozen=True)
class Sheet:
    """A table of text, the first column to the left, for the terminal and for Markdown.

    Heads may break into lines for the terminal.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def table(self) -> Table:
        """For the terminal."""
        # narrow, so that eight columns fit 80 characters
        table = Table(title=self.title, title_justify="left", box=SIMPLE_HEAD, padding=0)
        for place, head in enumerate(self.heads):
            table.add_column(
                head, justify="right" if place else "left", overflow="fold", no_wrap=not place
            )
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a file."""
        rule = ["---", *["---:"] * (len(self.heads) - 1)]
        heads = [head.replace("\n", " ") for head in self.heads]
        lines = [heads, rule, *self.rows]
        title = f"{self.title}\n\n" if self.title else ""
        return title + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
