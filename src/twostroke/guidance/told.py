"""What a guide tells of one batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..support import Support


@dataclass(frozen=True)
class Told:
    """Given supports of some examples, and what the teacher puts out for them.

    support: one bit a unit, on where the teacher's pre-activation lies above the lower edge of its site.
    outputs: (batch, classes) float32, or None where the guide has none.
    places: for each sampled site, by key, which places its mask is of: (places,) int64 indices into the
        flattened picture. A site that is not here has a mask of all its units.
    """

    support: Support
    outputs: Tensor | None = None
    places: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.support)

    def to(self, device: torch.device | str) -> Told:
        """The same on another device."""
        return replace(
            self,
            support=self.support.to(device, non_blocking=True),
            outputs=None if self.outputs is None else self.outputs.to(device, non_blocking=True),
            places={key: index.to(device) for key, index in self.places.items()},
        )
