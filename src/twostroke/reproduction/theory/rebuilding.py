"""Trained networks, rebuilt from the masks of a few images: digits, and noise.

`layer_by_layer` solves a convex problem a layer; `descent` guides a fresh network, all layers at once, as
`distill` does it. Each gives a `RebuiltPoint`.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ...guidance import Guide, distill
from ...report.half_spaces import RebuiltPoint
from ...support import record
from ...theory import rebuild
from ...theory.gauge import plain_layers, rows_of, unit_gauge
from ...theory.layerwise import Inputs, by_place
from .digits import Digits
from .findings import Tell

STEPS = 400  # of a teacher's training
DESCENT = 400  # of a guided network's


def teacher(width: int, seed: int) -> nn.Sequential:
    """Three convolutions and a linear layer on digits of 14×14, untrained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * width, 10),
        )


def rebuilding(
    widths: tuple[int, ...], images: tuple[int, ...], teachers: int, tell: Tell
) -> list[RebuiltPoint]:
    """Each teacher, from masks on each number of images, of digits and of noise."""
    digits, points = Digits(2), []
    for width in widths:
        for seed in range(teachers):
            net = teacher(width, seed)
            error = digits.train(net, seed, steps=STEPS)
            net = net.double()
            for kind, x in _pictures(digits, max(images), seed).items():
                for count in images:
                    for inputs in ("recovered", "teacher"):
                        point = layer_by_layer(
                            net, x[:count], inputs, digits, (kind, width, seed, error)
                        )
                        points.append(point)
                    tell(
                        f"width {width}, teacher {seed}, {count} {kind}: test error "
                        f"{100 * points[-2].error:.1f} %, teacher {100 * error:.1f} %"
                    )
                points.append(descent(net, x, digits, (kind, width, seed, error)))
                tell(f"the same by descent: {100 * points[-1].error:.1f} %")
    return points


def layer_by_layer(
    net: nn.Module, x: Tensor, inputs: Inputs, digits: Digits, about: tuple[str, int, int, float]
) -> RebuiltPoint:
    """`rebuild` a network from its masks and outputs on `x`; `about` is data, width, seed and its error."""
    kind, width, seed, error = about
    found = rebuild(net, record(net, x), x, inputs=inputs)
    angles = [layer.cosines.clamp(-1, 1).acos().rad2deg() for layer in found.layers]
    return RebuiltPoint(
        data=kind,
        width=width,
        teacher=seed,
        images=len(x),
        inputs=inputs,
        status=found.status,
        per_weight=[layer.separation.per_weight for layer in found.layers],
        angles=[float(a.nanmean()) for a in angles],
        cosines=[layer.cosine for layer in found.layers],
        undetermined=[int((~layer.separation.determined).sum()) for layer in found.layers],
        error=digits.error(found.model.float()),
        teacher_error=error,
    )


def descent(
    net: nn.Module, x: Tensor, digits: Digits, about: tuple[str, int, int, float]
) -> RebuiltPoint:
    """A fresh network, guided by the same masks and outputs for `DESCENT` steps of Muon."""
    kind, width, seed, error = about
    guide = Guide.record(copy.deepcopy(net).float().eval(), x.float())
    fresh = teacher(width, seed + 1000)
    result = distill(
        fresh, guide, x.float(), steps=DESCENT, batch_size=min(64, len(x)), device="cpu", seed=seed
    )
    ours, theirs = unit_gauge(result.model), unit_gauge(net)
    pairs = list(zip(plain_layers(ours), plain_layers(theirs), strict=True))[:-1]
    masks = [by_place(record(net, x)[site]) for site in guide.sites]
    angles, cosines, per_weight, undetermined = [], [], [], []
    for ((_, mine), (_, known)), mask in zip(pairs, masks, strict=True):
        cosine = torch.cosine_similarity(rows_of(mine), rows_of(known), dim=1).clamp(-1, 1)
        both = mask.any(0) & ~mask.all(0)
        cosine[~both] = torch.nan
        angles.append(float(cosine.acos().rad2deg().nanmean()))
        cosines.append(float(cosine.nanmean()))
        per_weight.append(len(mask) / rows_of(known).shape[1])
        undetermined.append(int((~both).sum()))
    return RebuiltPoint(
        data=kind,
        width=width,
        teacher=seed,
        images=len(x),
        inputs="descent",
        status=result.status,
        per_weight=per_weight,
        angles=angles,
        cosines=cosines,
        undetermined=undetermined,
        error=digits.error(result.model.float()),
        teacher_error=error,
    )


def _pictures(digits: Digits, count: int, seed: int) -> dict[str, Tensor]:
    """Digits that were drawn at random, and white noise with their mean and deviation."""
    draw = torch.Generator().manual_seed(seed)
    x = digits.x[torch.randperm(len(digits.x), generator=draw)[:count]]
    noise = torch.randn(x.shape, generator=draw, dtype=x.dtype)
    return {"digits": x, "noise": noise * digits.x.std() + digits.x.mean()}
