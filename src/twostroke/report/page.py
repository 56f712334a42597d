"""One page of HTML that needs nothing else: text, pictures as SVG, tables. Jinja fills in `page.html`."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from torch import Tensor

from ..runs.files import save_text
from .figure import COLOURS
from .sheet import Sheet

# the same lines on a dark page
DARK = (
    "#7fb2ee",
    "#f2935f",
    "#74c794",
    "#c39be0",
    "#e2bd5a",
    "#a9b5bd",
    "#f08fb2",
    "#6fd3d8",
    "#cd9a78",
    "#d2d46a",
    "#dfe7ef",
    "#5f7fa6",
)


@dataclass(frozen=True)
class Picture:
    """A small picture, as an address that contains it, and what stands below."""

    source: str
    caption: str

    @classmethod
    def of(cls, pixels: Tensor, caption: str) -> Picture:
        """Of pixels (1 or 3, height, width) uint8: PNG for a few, JPEG for photographs."""
        from PIL import Image

        kind = "PNG" if max(pixels.shape) <= 48 else "JPEG"
        file = io.BytesIO()
        image = pixels.permute(1, 2, 0).numpy() if len(pixels) == 3 else pixels[0].numpy()
        Image.fromarray(image).save(file, kind, quality=88)
        text = base64.b64encode(file.getvalue()).decode()
        return cls(f"data:image/{kind.lower()};base64,{text}", caption)


@dataclass(frozen=True)
class Section:
    """A part of the page: figures are SVG. A folded one opens at a click."""

    title: str
    text: str = ""
    figures: Sequence[str] = ()
    sheets: Sequence[Sheet] = ()
    pictures: Sequence[Picture] = ()
    folded: bool = False


def write_page(path: Path, title: str, lead: Sequence[str], sections: Sequence[Section]) -> None:
    """Write a page, whole or not at all; `lead` are lines below the title. Raises `RunFolderError`."""
    from jinja2 import Environment, StrictUndefined

    form = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.from_string(form).render(
        title=title, lead=lead, sections=sections, light=COLOURS, dark=DARK
    )
    save_text(path, text)
