"""A small set as one of a useful size: every example several times, each time another view."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import SettingsError
from .checks import as_indices, as_subset
from .examples import ExampleSource, on_device


class Repeated:
    """`times` copies of a source's examples, one after the other, each with its own augmentation draws.

    Of 100 examples an epoch is two steps, too short for settings that count in epochs, such as a
    schedule or a gap. With `times` 50 it is a hundred. Copies differ only where the source augments.

    Example i is the source's example `i % len(source)`, and its view v is that one's view
    `v * times + i // len(source)`, so no two copies and no two views share a draw. Without a view all
    copies are equal. Nothing is read ahead, and `Data` refuses to set a part of it aside, which would
    have copies of the other part: split first, then repeat.

    Raises `SettingsError` if `times` is below 1.
    """

    def __init__(self, source: ExampleSource, times: int) -> None:
        if times < 1:
            raise SettingsError(f"Repeated: times must be 1 or more, not {times}")
        self.source, self.times = source, times
        self._chosen: Tensor | None = None  # of a subset: its examples' numbers among all copies

    def __len__(self) -> int:
        return self.times * len(self.source) if self._chosen is None else len(self._chosen)

    def __repr__(self) -> str:
        part = "" if self._chosen is None else f", {len(self):,} of them"
        return f"Repeated({self.source!r}, {self.times}{part})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """One image's (channels, height, width)."""
        return self.source.shape

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; label k stands for `classes[k]`."""
        return self.source.classes

    def batch(
        self,
        indices: Tensor,  # (batch,) integer, in [0, len)
        *,
        view: int | None = None,
        seed: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Fetch x (batch, channels, height, width) float32 and y (batch,) int64 from the source.

        Examples of one copy are fetched together. Raises `DataError` as the source does.
        """
        indices = as_indices(indices.cpu(), len(self))
        if self._chosen is not None:
            indices = self._chosen[indices]
        copies, indices = indices // len(self.source), indices % len(self.source)
        if view is None or not len(indices):
            return self.source.batch(indices, view=view, seed=seed)
        order, parts = [], []
        for k in copies.unique().tolist():
            rows = (copies == k).nonzero()[:, 0]
            order.append(rows)
            parts.append(self.source.batch(indices[rows], view=view * self.times + k, seed=seed))
        back = torch.cat(order).argsort()
        x, y = (torch.cat(part) for part in zip(*parts, strict=True))
        return x[back.to(x.device)], y[back.to(y.device)]

    def to(self, device: torch.device | str) -> Repeated:
        """Return the same on `device`; a source without a method `to` stays as it is."""
        return self._with(on_device(self.source, device), self._chosen)

    def subset(
        self,
        indices: Tensor,  # (count,) integer
    ) -> Repeated:
        """Take some of the copies, numbered from 0 again; each keeps its augmentation draws.

        Raises `DataError` if `indices` are empty, not a row of integers, or out of range.
        """
        indices = as_subset(indices.cpu(), len(self))
        return self._with(self.source, indices if self._chosen is None else self._chosen[indices])

    def _with(self, source: ExampleSource, chosen: Tensor | None) -> Repeated:
        other = Repeated(source, self.times)
        other._chosen = chosen
        return other
