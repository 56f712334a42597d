"""What an experiment of theory hands over: tables, notes, pictures and figures, and their files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...report.sheet import Sheet
from ...runs import versions

Tell = Callable[[str], object]  # is given a line after each part of the work


@dataclass(frozen=True)
class Findings:
    """Tables, notes of a line each, pictures by file name, and every figure for a JSON file."""

    name: str
    sheets: Sequence[Sheet]
    notes: Sequence[str]
    pictures: Mapping[str, Callable[[Path], None]]
    figures: Mapping[str, Any]

    def write(self, folder: Path, command: str, seconds: float) -> list[str]:
        """Write NAME.md, NAME.json and the pictures into a folder; returns the files' names."""
        about = versions() | {"command": command, "seconds": round(seconds, 1)}
        (folder / f"{self.name}.json").write_text(
            json.dumps({"about": about, **_plain(self.figures)}, indent=1, allow_nan=False) + "\n"
        )
        for name, draw in self.pictures.items():
            draw(folder / name)
        (folder / f"{self.name}.md").write_text(
            "\n".join(
                [
                    f"# twostroke {self.name}\n",
                    *(sheet.markdown() for sheet in self.sheets),
                    *(f"{note}\n" for note in self.notes),
                    *(f"![{Path(name).stem}]({name})\n" for name in self.pictures),
                    f"`{command}`: {about['seconds']} s; twostroke {about['twostroke']}, Python "
                    f"{about['python']}, PyTorch {about['torch']}, {about['platform']}, "
                    f"{about['threads']} threads; every figure in {self.name}.json.\n",
                ]
            )
        )
        return [f"{self.name}.md", f"{self.name}.json", *self.pictures]


def _plain(value: Any) -> Any:
    """Figures as JSON takes them: null instead of infinite and undefined numbers."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
