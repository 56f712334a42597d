"""A whole network from the masks of a few images: one convex problem a layer, and no descent."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..errors import SettingsError, UnholdableError
from ..outcome import Result, Status
from ..support import Support
from ..support.modules import in_sequence
from .chain import unfolded
from .gauge import plain_layers, put_rows, rows_of, unit_gauge
from .half_spaces import Separation, half_spaces

Inputs = Literal["recovered", "teacher"]
# what recovered layers give is not quite what the teacher's do: without a ridge, as many images as weights
# would blow that up
OUTPUT_RIDGE = 1e-3


@dataclass(frozen=True)
class RebuiltLayer:
    """One hidden layer: its half-spaces, and how far their directions are from the teacher's.

    `cosines` is (units,), NaN for units that are not determined.
    """

    name: str
    separation: Separation
    cosines: Tensor

    @property
    def cosine(self) -> float:
        """Mean over the units that are determined; NaN without any."""
        return float(self.cosines.nanmean())


@dataclass(frozen=True, kw_only=True)
class Rebuilt(Result):
    """A network that was rebuilt: `model`, in float64, and its hidden layers, first layer first."""

    ADVISES: ClassVar[Mapping[Status, str]] = {
        Status.CONVERGED: "Every unit that has both bits is at the optimum of its convex problem.",
        Status.LIMIT: "Some layer ran out of steps: raise max_steps.",
        Status.NOT_UNIQUE: "A layer has no unit with both bits: take other images.",
    }

    model: nn.Module
    layers: tuple[RebuiltLayer, ...]


def rebuild(
    teacher: nn.Module,
    support: Support,
    x: Tensor,
    *,
    inputs: Inputs = "recovered",
    max_steps: int = 100,
) -> Rebuilt:
    """Rebuild a plain network from its support on `x` and, for the last layer, its outputs there.

    Layer after layer, the weights of each unit are the half-space that its mask shows; the last layer,
    which has no mask, is ridge regression of the teacher's outputs. A layer is solved on what the
    layers rebuilt so far make of `x`, or, with `inputs="teacher"`, on what the teacher's own do, so that
    errors do not add up. Of the teacher's weights nothing is used but, at the end, for `cosines`, and for
    the inputs with "teacher".

    `x` is the batch that `support` was recorded on. Raises `UnholdableError` for other models than
    `plain_layers` takes, or where ReLU does not follow a hidden layer.
    """
    if inputs not in ("recovered", "teacher"):
        raise SettingsError(f"inputs are 'recovered' or 'teacher', not {inputs!r}")
    theirs = unit_gauge(teacher)
    ours = copy.deepcopy(theirs)
    for _, layer in plain_layers(ours):
        put_rows(layer, torch.zeros_like(rows_of(layer)))
    masks = _masks(theirs, support)
    found: list[RebuiltLayer] = []
    with torch.no_grad():
        made = given = x.double()
        pairs = zip(in_sequence(ours), in_sequence(theirs), strict=True)
        for (name, mine), (_, known) in pairs:
            if isinstance(mine, nn.Linear | nn.Conv2d):
                met = measurements(mine, given if inputs == "teacher" else made)
                if name in masks:
                    solved = half_spaces(met, by_place(masks[name]), max_steps=max_steps)
                    put_rows(mine, solved.weights)
                    cosines = torch.cosine_similarity(solved.weights, rows_of(known), dim=1)
                    cosines[~solved.determined] = torch.nan
                    found.append(RebuiltLayer(name, solved, cosines))
                else:
                    put_rows(mine, from_outputs(met, by_place(known(given))))
            made, given = mine(made), known(given)
    statuses = [layer.separation.status for layer in found]
    worst = (s for s in (Status.NOT_UNIQUE, Status.LIMIT) if s in statuses)
    return Rebuilt(
        status=next(worst, Status.CONVERGED),
        detail=", ".join(f"{layer.name}: {layer.separation.detail}" for layer in found),
        notes=[f"{layer.name}: {note}" for layer in found for note in layer.separation.notes],
        model=ours,
        layers=tuple(found),
    )


def from_outputs(z: Tensor, y: Tensor) -> Tensor:
    """Ridge regression of y (places, units) on z (places, fan-in): the layer's rows, (units, fan-in)."""
    G = z.mT @ z
    G.diagonal().add_(OUTPUT_RIDGE * G.diagonal().mean())
    rows: Tensor = torch.linalg.solve(G, z.mT @ y).mT
    return rows


def measurements(layer: nn.Linear | nn.Conv2d, z: Tensor) -> Tensor:
    """What every unit of a layer meets at each place, a one last for its bias: (images · places, fan-in)."""
    if isinstance(layer, nn.Conv2d):
        z = unfolded(layer, z)[0].transpose(1, 2).flatten(0, 1)
    return z if layer.bias is None else torch.cat([z, z.new_ones(len(z), 1)], 1)


def by_place(values: Tensor) -> Tensor:
    """(images, units) or (images, channels, height, width) → (images · places, units)."""
    return values.movedim(1, -1).flatten(0, -2)


def _masks(model: nn.Module, support: Support) -> dict[str, Tensor]:
    """The mask of each layer that ReLU follows, by its path."""
    masks: dict[str, Tensor] = {}
    calls: dict[str, int] = {}
    waiting = ""
    for name, module in in_sequence(model):
        if isinstance(module, nn.ReLU):
            key = f"{name}#{calls.get(name, 0)}"
            calls[name] = calls.get(name, 0) + 1
            if waiting:
                masks[waiting] = support[key]
            waiting = ""
        elif waiting and not isinstance(module, nn.Identity | nn.Dropout):
            raise UnholdableError(
                f"{waiting} is not followed by ReLU, so that no mask shows its weights: put ReLU after it"
            )
        elif isinstance(module, nn.Linear | nn.Conv2d):
            waiting = name
    return masks
