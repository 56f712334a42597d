"""`twostroke sites` and `twostroke models`."""

from __future__ import annotations

from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table


def sites(
    model: tyro.conf.Positional[str],
    *,
    image_size: int = 32,
    channels: int = 3,
    classes: int = 10,
    pooling: bool = False,
    strict: bool = True,
    examples: int | None = None,
    epochs: int | None = None,
) -> None:
    """List what would be held in a model, and what its support takes to store.

    Of each site: module path and call index, kind, shape, units, bytes an example.

    Args:
        model: Name of a model; `twostroke models` lists them.
        image_size: Height and width of the images, in pixels.
        channels: Channels of the images.
        classes: Number of classes.
        pooling: List max pooling too, which can be held as well.
        strict: Refuse a model with non-linearities that cannot be held; --no-strict lists the rest.
        examples: Training examples; says what instance-wise alternation stores for them.
        epochs: Epochs under held masks, with --examples; says what they read from the store.
    """
    import torch

    from ..errors import SettingsError, UnholdableError
    from ..models import create_model
    from ..support import sites as find_sites
    from ..support.sites import row_bytes

    for name, value in (
        ("image-size", image_size),
        ("channels", channels),
        ("classes", classes),
        ("examples", examples),
        ("epochs", epochs),
    ):
        if value is not None and value < 1:
            raise SettingsError(f"--{name} is 1 or more, not {value}")
    if epochs is not None and examples is None:
        raise SettingsError("--epochs counts passes over the examples: add --examples")
    shape = f"{channels}×{image_size}×{image_size}"
    try:
        net = create_model(model, classes=classes, in_channels=channels).eval()
        x = torch.zeros(2, channels, image_size, image_size)
        found = find_sites(net, x, pooling=pooling, strict=strict)
    except UnholdableError as error:
        raise UnholdableError(f"{error}; --no-strict lists the rest") from error
    except RuntimeError as error:
        raise SettingsError(f"{model} does not take images of {shape}: {error}") from error
    table = Table(title=f"{model} at {shape}", title_justify="left")
    table.add_column("site", overflow="fold")
    table.add_column("kind")
    for head in ("shape", "units", "bytes an example"):
        table.add_column(head, justify="right")
    for site in found:
        size = "×".join(map(str, site.shape))
        table.add_row(site.key, site.kind, size, f"{site.units:,}", f"{site.nbytes:,}")
    table.add_section()
    units, row = sum(s.units for s in found), row_bytes(found)
    table.add_row(f"{len(found)} sites", "", "", f"{units:,}", f"{row:,}")
    console = Console(markup=False)
    console.print(table)
    if examples is not None:
        console.print(stored(row, examples, epochs), highlight=False)


def stored(row: int, examples: int, epochs: int | None) -> str:
    """What a run stores and reads, in a sentence or two; `row` is in bytes an example."""
    from .._amounts import size

    text = f"The support of {examples:,} examples takes {size(row * examples)}; several processes share it."
    if epochs is not None:
        text += (
            f" {epochs} epochs under held masks read {size(row * examples * epochs)}, "
            "and every support stroke writes it once and takes one forward pass over the data."
        )
    return text


def models(
    pattern: Annotated[str, tyro.conf.arg(metavar="PATTERN")] = "",
    *,
    all: bool = False,
) -> None:
    """List the models that can be named.

    Args:
        pattern: Only names with this in them, like resnet, or that match it, like 'res*' or 'torchvision/*'.
        all: List torchvision's and timm's too; without it they are only counted.
    """
    from ..errors import UnknownNameError
    from ..models import MODELS, list_models

    console = Console(markup=False)
    if pattern or all:
        plain = not any(sign in pattern for sign in "*?[")
        names = list_models(f"*{pattern}*" if plain else pattern)
        if not names:
            raise UnknownNameError(
                f"no model matches {pattern!r}; twostroke models --all lists them"
            )
        for name in names:
            console.print(name, highlight=False)
        return
    table = Table()
    table.add_column("model")
    table.add_column("what it is")
    for name, entry in MODELS.items():
        table.add_row(name, entry.description)
    console.print(table)
    for source in ("torchvision", "timm"):
        count = len(list_models(f"{source}/*"))
        more = f"{count} more from {source}: twostroke models --pattern '{source}/*'"
        missing = f"none from {source}: pip install 'twostroke[{source}]'"
        console.print(more if count else missing, markup=False, highlight=False)
