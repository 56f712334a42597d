"""A unit's weights from its bits alone: which half-space does it switch on in?

For known inputs z, a mask says the sign of ⟨w, z⟩ and nothing else: each place of each image is one
measurement of one bit. To find w is to learn a half-space, a convex problem; in signal processing,
one-bit compressed sensing (Boufounos & Baraniuk 2008). Scale is lost, direction is not: its error falls no
faster than one over the number of measurements (Jacques et al. 2013), and convex programs find it from Gaussian
measurements (Plan & Vershynin 2013).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import SettingsError
from ..outcome import Result, Status

RIDGE = 3e-3
LEAST_RIDGE = 1e-11  # below it rounding hides the certificate
TRIES = 40  # halvings of a step


@dataclass(frozen=True, kw_only=True)
class Separation(Result):
    """Half-spaces of the units of a layer, with a certificate for each.

    weights: (units, fan-in), each of norm 1; zeros for a unit that is not determined.
    margins: (units,), the least s·⟨w, z⟩ over all measurements, relative to the root mean square of ‖z‖.
        Above 0 every bit is met: the half-space separates. It may be below 0 by a trifle, as the ridge gives
        up a bit that lies on the border.
    gaps: (units,), the certificate: w before scaling is within this share of its norm from the optimum.
    determined: (units,), False for units that are off, or on, at every place.
    per_weight: one-bit measurements a weight, that is images × places / fan-in.
    """

    ADVISES: ClassVar[Mapping[Status, str]] = {
        Status.CONVERGED: "Every unit that has both bits is at the optimum, or separates.",
        Status.LIMIT: "Steps ran out before the gradient was small: raise max_steps, or the ridge.",
        Status.NOT_UNIQUE: "No unit has both bits: take other images.",
    }

    weights: Tensor
    margins: Tensor
    gaps: Tensor
    determined: Tensor
    per_weight: float
    steps: int


def half_spaces(
    z: Tensor,
    on: Tensor,
    *,
    ridge: float | None = None,
    tolerance: float = 1e-3,
    max_steps: int = 100,
) -> Separation:
    """Logistic regression of the bits `on` (measurements, units) on `z` (measurements, fan-in), in float64.

    All units at once, each by Newton's method on its own
    `mean log(1 + exp(-s ⟨w, z⟩)) + ridge/2 ‖w‖²` with s = ±1 and z scaled to a root mean square norm of 1.
    This is convex, and strongly, so that ‖gradient‖ / ridge bounds the distance to its one optimum; a unit is
    done where that is `tolerance` of ‖w‖. For a bias give a column of ones.

    The width of the logistic's transition should shrink as the directions that agree with all bits do, like
    fan-in / measurements; a ridge of the cube of that, times `RIDGE`, does this, and is the default. For a
    ridge of 0 the direction would go to that of the largest margin, slowly.

    Raises `SettingsError` for sizes that do not fit, inputs that are not finite, and a ridge of 0.
    """
    if z.ndim != 2 or on.ndim != 2 or len(z) != len(on):
        raise SettingsError(
            f"half-spaces take z (measurements, fan-in) and bits (measurements, units), not "
            f"{tuple(z.shape)} and {tuple(on.shape)}"
        )
    if not z.isfinite().all():
        raise SettingsError("the inputs of the half-spaces are infinite or undefined somewhere")
    if ridge is not None and not ridge > 0:
        raise SettingsError(f"a ridge is above 0, or the optimum lies at infinity; not {ridge}")
    z, on = z.double(), on.bool()
    fan_in, units = z.shape[1], on.shape[1]
    seen = (z != 0).any(1)  # an input of zeros measures nothing
    z, on = z[seen], on[seen]
    determined = on.any(0) & ~on.all(0) if len(z) else torch.zeros(units, dtype=torch.bool)
    if ridge is None:
        ridge = min(0.1, max(LEAST_RIDGE, RIDGE * (fan_in / max(1, len(z))) ** 3))
    weights, gaps, margins = (
        z.new_zeros(units, fan_in),
        z.new_zeros(units),
        z.new_zeros(units),
    )
    steps = 0
    if determined.any():
        z = z / z.square().sum(1).mean().sqrt()
        signs = 2.0 * on[:, determined].to(z) - 1
        w, gap, steps = _newton(z, signs, ridge, tolerance, max_steps)
        w = w / w.norm(dim=1, keepdim=True)
        weights[determined], gaps[determined] = w, gap
        margins[determined] = (signs * (z @ w.mT)).amin(0)
    good = (gaps <= tolerance) | (margins > 0)
    notes = [
        f"unit {k} is {'on' if on[:1, k].all() and len(on) else 'off'} at every place: not determined"
        for k in (~determined).nonzero().flatten().tolist()
    ]
    status = Status.CONVERGED if bool(good.all()) else Status.LIMIT
    return Separation(
        status=status if determined.any() else Status.NOT_UNIQUE,
        detail=f"{int(determined.sum())} of {units} units in {steps} steps, "
        f"{int((margins > 0).sum())} separate",
        notes=notes,
        weights=weights,
        margins=margins,
        gaps=gaps,
        determined=determined,
        per_weight=len(seen) / fan_in,
        steps=steps,
    )


def objective(w: Tensor, z: Tensor, signs: Tensor, ridge: float) -> Tensor:
    """What is minimised, for each unit: w (units, fan-in), signs (measurements, units) → (units,)."""
    return F.softplus(-signs * (z @ w.mT)).mean(0) + ridge / 2 * w.square().sum(1)


def _newton(
    z: Tensor, signs: Tensor, ridge: float, tolerance: float, max_steps: int
) -> tuple[Tensor, Tensor, int]:
    """Damped Newton steps, units apart; weights, gaps, and the steps of the slowest unit."""
    m, units = signs.shape
    w = z.new_zeros(units, z.shape[1])
    gaps = z.new_full((units,), torch.inf)
    busy = torch.arange(units, device=z.device)
    step = 0
    while True:
        s, at = signs[:, busy], w[busy]
        p = torch.sigmoid(-s * (z @ at.mT))  # the model's doubt of each bit
        gradient = ridge * at - (p * s).mT @ z / m
        gaps[busy] = gradient.norm(dim=1) / (ridge * at.norm(dim=1)).clamp_min(1e-300)
        keep = gaps[busy] > tolerance
        if step == max_steps or not keep.any():
            return w, gaps, step
        busy, s, at, p, gradient = busy[keep], s[:, keep], at[keep], p[:, keep], gradient[keep]
        curvature = p * (1 - p) / m
        H = torch.stack([(z * c[:, None]).mT @ z for c in curvature.unbind(1)])
        H.diagonal(dim1=1, dim2=2).add_(ridge)
        move = torch.linalg.solve(H, gradient)
        fall = (move * gradient).sum(1)
        before, length = objective(at, z, s, ridge), torch.ones_like(fall)
        for _ in range(TRIES):
            after = objective(at - length[:, None] * move, z, s, ridge)
            short = after > before - 1e-4 * length * fall + 1e-15  # less than rounding shows
            if not short.any():
                break
            length = torch.where(short, length / 2, length)
        w[busy] = at - length[:, None] * move
        step += 1
