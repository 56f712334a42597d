"""`Activation`: one call of a switching function, the base of every kind of site."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import UnholdableError
from .. import bits
from .held import select


class Activation(ABC):
    """One call of a switching function on the pre-activation `q`, shape (batch, ...).

    A kind says on which piece each unit is (`own`), and computes its output for given pieces
    (`held`). With its own pieces, `held` must give what the function gives, bit for bit, and the
    same gradient.
    """

    kind: ClassVar[str]  # the site's kind, as supports and their files name it
    # whether a unit stands alone, so that rules apply, or chooses among its neighbours (max pooling)
    unitwise: ClassVar[bool] = True

    def __init__(self, q: Tensor, inplace: bool = False) -> None:
        self.q = q
        self.inplace = inplace

    @property
    def shape(self) -> torch.Size:
        """Shape of the mask, batch first."""
        return self.q.shape

    @property
    def planes(self) -> int:
        """Bits per unit."""
        return 1

    @abstractmethod
    def own(self) -> Sequence[Tensor]:
        """Masks of the function's own rule: one for each plane, bool, of `shape`."""

    def own_packed(self) -> list[Tensor]:
        """`own`, packed: (batch, bytes) uint8 for each plane."""
        return [bits.pack(mask) for mask in self.own()]

    def ruled(
        self,
        on: Tensor,  # (batch or 1, ...) bool
    ) -> Sequence[Tensor]:
        """Masks, one for each plane, where another rule has chosen the units that are on."""
        return (on,)

    @abstractmethod
    def held(
        self,
        planes: Sequence[Tensor],  # each (batch or 1, bytes) uint8
    ) -> Any:
        """Output for the given packed planes (eq. 13), in place where the call was."""

    def gated(
        self,
        planes: Sequence[Tensor],  # as `held` takes them
    ) -> Any:
        """`m ∘ f(q)`: the function stays, and the mask stands on top of it.

        Raises `UnholdableError` for a kind whose output has another shape than its mask.
        """
        z = self.held(self.own_packed())
        if z.shape != self.shape:
            raise UnholdableError(
                f"a {self.kind} gives {tuple(z.shape)} for a mask of {tuple(self.shape)}, so that no "
                "mask can stand on top of it: hold with gated=False, or give the kind a `gated`"
            )
        return select(z, planes[0], inplace=self.inplace)
