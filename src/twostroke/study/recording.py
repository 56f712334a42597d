"""Supports of a batch, or of a whole data set by batches; files of them for NumPy."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from .. import support as core
from .._files import replacing
from ..alternation import Phase
from ..data import Data, ExampleSource, announce
from ..errors import DataError, SettingsError, SupportMismatchError
from ..support import Rule, Support
from ..support.modes import evaluating
from ..training.listener import Listener, Progress


def record(
    model: nn.Module,
    x: object,
    *,
    rule: Rule | None = None,
    pooling: bool = False,
    gated: bool = False,
    strict: bool = True,
    batch_size: int = 500,
    out: str | PathLike[str] | None = None,
    listener: Listener | None = None,
) -> Support:
    """Support of a batch, or of a data set by batches: a forward pass without gradient.

    `x` is the model's input, (batch, ...), or a tuple of its positional arguments. The model stays in its
    mode and is left as it was. Without a `rule` each activation's own rule is recorded (for ReLU `q > 0`),
    and `hold` right afterwards computes the same output, bit for bit. With one, the recorded network has
    the rule as its activation: `z = m ∘ q` goes on to the next layer, or `m ∘ ReLU(q)` if `gated`.
    `pooling=True` records the argmax of max pooling too, so that the held network is affine.

    `x` may also be a data set: examples (`Data.train`), a map-style `Dataset`, or a `DataLoader` that does
    not shuffle; of `Data` the training examples are taken. It is recorded in evaluation mode, in batches
    of `batch_size`; a loader has its own. Row i is example i, on the CPU. With `out` the rows go
    to that file, which `Support.load` reads, and stay there: what comes back is mapped from the file, so
    that it may exceed memory. `listener` is told of each batch.

    Raises `UnholdableError` for a model with non-linearities that cannot be held, with their names,
    unless `strict=False`, and `NestedHoldError` within a `hold` of the same model; `DataError` for
    a data set that is empty or shuffles, `SettingsError` for a rule that gives a batch one mask.
    """
    options: dict[str, Any] = {"rule": rule, "pooling": pooling, "gated": gated, "strict": strict}
    if isinstance(x, Data):
        x = x.train
    if not isinstance(x, ExampleSource | Dataset | DataLoader):
        if out is not None:
            raise SettingsError("out=... is for data sets: of a batch, record(model, x).save(path)")
        return core.record(model, x, **options)  # type: ignore[arg-type]
    if getattr(rule, "shared", False):
        raise SettingsError(
            "this rule gives one mask to a whole batch, and the batches of a data set are arbitrary: record "
            "a batch of yours, or take a rule that gives each example its own mask"
        )
    if batch_size < 1:
        raise SettingsError(f"batch_size is 1 or more, not {batch_size}")
    like = next(model.parameters(), torch.empty(0))
    supports = _supports(model, x, batch_size, like, options, listener or Listener())
    if out is not None:
        with replacing(Path(out)) as partial, partial.open("wb") as file:
            _write(file, supports)
        return Support.load(out)
    return Support.cat(list(supports))


def export(support: Support, path: str | PathLike[str]) -> None:
    """Write packed bits to an .npz file for NumPy: for each site, by its key, (examples, bytes) uint8.

    With several planes it is (planes, examples, bytes). `KEY/shape` has the shape of one example. Unpack by
    `numpy.unpackbits(bits, axis=-1, count=units, bitorder="little")`.
    """
    import numpy as np

    arrays = {}
    for site in support.sites:
        planes = support.planes(site).cpu().numpy()
        arrays[site.key] = planes[0] if site.planes == 1 else planes
        arrays[f"{site.key}/shape"] = np.array(site.shape)
    with replacing(Path(path)) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _supports(
    model: nn.Module,
    source: ExampleSource | Dataset[Any] | DataLoader[Any],
    batch_size: int,
    like: Tensor,
    options: dict[str, Any],
    listener: Listener,
) -> Iterator[Support]:
    """Supports of the batches in turn, on the CPU."""
    if isinstance(source, ExampleSource):
        parts = torch.arange(len(source)).split(batch_size)
        announce(source, parts)
        batches: Any = (source.batch(part) for part in parts)
        steps = len(parts)
    else:
        loader = source if isinstance(source, DataLoader) else DataLoader(source, batch_size)
        if isinstance(getattr(loader, "sampler", None), RandomSampler):
            raise DataError(
                "this DataLoader shuffles, so that a row would belong to no example: shuffle=False"
            )
        batches, steps = loader, 0
        with suppress(TypeError):  # a stream has no length
            steps = len(loader)
    step = 0
    for step, batch in enumerate(batches, 1):
        x = batch[0] if isinstance(batch, tuple | list) else batch
        if not isinstance(x, Tensor):
            raise DataError(
                f"a batch of this data set begins with {type(x).__name__}, not with a tensor of inputs"
            )
        x = x.to(like.device, like.dtype if x.is_floating_point() else x.dtype)
        with evaluating(model):
            found = core.record(model, x, **options)
        yield found.to("cpu")
        listener.step(Progress(0, 1, step, max(steps, step), Phase.RECORDING))
    if not step:
        raise DataError("the data set has no examples")


def _write(file: BinaryIO, supports: Iterator[Support]) -> None:
    """A safetensors file whose number of rows is known at its end: the header has room for it."""
    examples, crc, first = 0, 0, None
    for support in supports:
        if first is None:
            first = support
            room = len(_header(first, 10**15, 0))
            file.write(bytes(8 + room))
        if support.sites != first.sites:
            raise SupportMismatchError("inputs of other sizes: a file has the supports of one size")
        rows = support.rows.numpy().tobytes()
        crc = zlib.crc32(rows, crc)
        file.write(rows)
        examples += len(support)
    assert first is not None
    file.seek(0)
    file.write(struct.pack("<Q", room) + _header(first, examples, crc).ljust(room))


def _header(support: Support, examples: int, crc: int) -> bytes:
    width = support.rows.shape[1]
    rows = {"dtype": "U8", "shape": [examples, width], "data_offsets": [0, examples * width]}
    return json.dumps({"__metadata__": support.metadata(examples, crc), "rows": rows}).encode()
