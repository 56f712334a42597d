"""Masks of weights: by magnitude, by what the weights carry, or none (the control)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from ..data import ExampleSource, draw_some
from ..errors import DeadLayerError, SettingsError
from .carried import calls_of, carried
from .layers import Masks, prunable
from .units import Units

Per = Literal["batch", "instance"]


class WeightMask(Protocol):
    """Finds masks at the beginning of the sparse phase; bring your own."""

    def find(self, model: nn.Module, source: ExampleSource, *, seed: int) -> Masks:
        """Masks by module path, of their weights' shapes; weights of other modules stay."""
        ...


@dataclass(frozen=True, kw_only=True)
class NoMask:
    """The control: the same epochs at the same learning rates, and nothing is pruned."""

    def find(self, model: nn.Module, source: ExampleSource, *, seed: int) -> Masks:
        """No mask at all."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Magnitude:
    """In each layer the `ratio` smallest weights by magnitude go (Han et al. 2017).

    One ratio for every convolution and linear layer; the first layer is spared. Of equal weights
    those that come first stay, so that exactly `round(ratio * n)` of n are pruned.
    """

    ratio: float = 0.3
    spare_first: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise SettingsError(
                f"ratio is the share of weights to prune, from 0 and below 1, not {self.ratio}"
            )

    def find(self, model: nn.Module, source: ExampleSource, *, seed: int) -> Masks:
        """See the class."""
        return by_magnitude(prunable(model, spare_first=self.spare_first), self.ratio)


def by_magnitude(weights: Mapping[str, Tensor], ratio: float) -> Masks:
    """Masks of what stays when the `ratio` smallest of each of `weights` go; see `Magnitude`."""
    return {
        path: _largest(weight.detach().abs(), weight.numel() - round(ratio * weight.numel()))
        for path, weight in weights.items()
    }


def _largest(scores: Tensor, count: int) -> Tensor:
    """Mask of the `count` largest scores."""
    order = scores.flatten().argsort(descending=True, stable=True)
    keep = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    keep[order[:count]] = True
    return keep.view(scores.shape)


@dataclass(frozen=True, kw_only=True)
class Connections:
    """A weight stays where what it carries exceeds the price: eq. 36 and 41 for connections.

    What weight w from unit i to unit o carries of one example is `w² Σ z_i² m_o`, over the places
    where a convolution uses it (`carried`). per="batch" takes the mean over `examples` training
    examples (eq. 41: one mask for all of them together); per="instance" the largest, so that a weight
    stays if any one example keeps it by eq. 36.

    `price` is relative to the mean of that quantity over a layer's weights; one number serves every
    layer, and how many weights go is an outcome, not a setting: for normally distributed weights
    and inputs of equal energy 0.15 prunes 30 %, and in nets whose units differ much in energy, such
    as VGG and GoogLeNet, it pruned 69 to 83 %. Look at `sparsity`. The first layer is spared.
    """

    per: Per = "batch"
    price: float = 0.15
    examples: int = 512
    batch_size: int = 64
    spare_first: bool = True

    def __post_init__(self) -> None:
        if self.per not in ("batch", "instance"):
            raise SettingsError(f"per is 'batch' or 'instance', not {self.per!r}")
        if not 0 <= self.price < float("inf"):
            raise SettingsError(f"price must not be negative, as {self.price} is")
        if self.examples < 1 or self.batch_size < 1:
            raise SettingsError("examples and batch_size are 1 or more")

    def find(self, model: nn.Module, source: ExampleSource, *, seed: int) -> Masks:
        """See the class."""
        energy = self.energies(model, source, seed=seed)
        masks = {}
        for path in prunable(model, spare_first=self.spare_first):
            if path not in energy:  # never called: nothing is known of it
                continue
            mean = energy[path].mean()
            if mean == 0:
                raise DeadLayerError(
                    f"{path} carries nothing in any of {min(self.examples, len(source))} examples: its "
                    "units, or all that lead to it, are never on. Train the dense phase again at a "
                    "lower learning rate, or use mask='magnitude'"
                )
            masks[path] = energy[path] > self.price * mean
        return masks

    def energies(self, model: nn.Module, source: ExampleSource, *, seed: int) -> dict[str, Tensor]:
        """Mean (batch) or largest (instance) energy that each weight carries, by module path."""
        device = next(model.parameters()).device
        found: dict[str, Tensor] = {}
        batch_size = self.batch_size if self.per == "batch" else 1
        chosen = some_examples(source, self.examples, seed)
        for indices in chosen.split(batch_size):
            x, _ = source.batch(indices, seed=seed)
            for path, calls in calls_of(model, x.to(device)).items():
                if not calls:
                    continue
                some = torch.stack([carried(call) for call in calls]).sum(0)
                before = found.get(path)
                if before is None:
                    found[path] = some
                elif self.per == "batch":
                    before += some
                else:
                    torch.maximum(before, some, out=before)
        if self.per == "batch":
            for total in found.values():
                total /= len(chosen)
        return found


def some_examples(source: ExampleSource, count: int, seed: int) -> Tensor:
    """Indices of `count` examples, or of all there are, drawn without replacement."""
    return draw_some(count, len(source), seed=seed, view=1)


# what `mask="..."` and `--mask` understand
MASKS: dict[str, Callable[[], WeightMask | Units]] = {
    "magnitude": Magnitude,
    "batch-connections": Connections,
    "instance-connections": lambda: Connections(per="instance"),
    "batch-units": Units,
    "instance-units": lambda: Units(per="instance"),
    "none": NoMask,
}
