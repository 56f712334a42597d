"""Problem P1 (eq. 22) for any depth: Levenberg–Marquardt on the weights of a chain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import UnholdableError
from ..outcome import Status
from .chain import Chain, summed
from .recovery.alternating import least_norm
from .recovery.driver import Recovery, figures


@dataclass(frozen=True, kw_only=True)
class DeepSolution(Recovery):
    """What `recover_weights` found: weights (n1,), (n2,), …"""

    weights: tuple[Tensor, ...]


def jacobian(network: Chain, weights: Sequence[Tensor]) -> Tensor:
    """Derivative of the held output by all weights: (batch · outputs, n1 + n2 + …)."""
    inputs, z = [], network.x
    for link, mask, w in zip(network.links, network.masks, weights, strict=True):
        inputs.append(z)
        z = mask * summed(z[:, link.i] * w[link.j], link.k, link.outputs)
    n, outputs = z.shape
    # back: how each output answers to what leaves the link
    back = torch.eye(outputs, dtype=z.dtype, device=z.device).expand(n, outputs, outputs)
    parts = []
    layers = zip(network.links, network.masks, weights, inputs, strict=True)
    for link, mask, w, z in reversed(list(layers)):
        at = (back * mask[:, None])[:, :, link.k]  # (batch, outputs, triples)
        parts.append(summed(at * z[:, None, link.i], link.j, link.weights))
        back = summed(at * w[link.j], link.i, link.inputs)
    return torch.cat(parts[::-1], 2).flatten(0, 1)


def live(network: Chain, weights: Sequence[Tensor]) -> Chain:
    """`network` under the masks that ReLU chooses for `weights`, after every link but the last."""
    z, masks = network.x, []
    for link, w in zip(network.links[:-1], weights, strict=False):
        q = summed(z[:, link.i] * w[link.j], link.k, link.outputs)
        masks.append((q > 0).to(q))
        z = q * masks[-1]
    return replace(network, masks=(*masks, network.masks[-1]))


def recover_weights(
    network: Chain,
    y: Tensor,
    start: Sequence[Tensor],
    *,
    held: bool = True,
    max_steps: int = 500,
    rtol: float = 1e-13,
    patience: int = 40,
) -> DeepSolution:
    """`min Σ ‖y_n - F(x_n; W)‖²` over the weights of every layer, from `start` (n1,), (n2,), …

    `y` is (batch, outputs). Held, the masks are the chain's; with `held=False` they are ReLU's own at
    every step. A step is taken only if the residual falls. The status is never `NOT_UNIQUE`: every
    network has a scale for each hidden unit that no output shows.
    """
    scale = float(y.norm()) or 1.0
    weights = [w.clone() for w in start]
    sizes = network.sizes

    def under(weights: Sequence[Tensor]) -> Chain:
        return network if held else live(network, weights)

    def misfit(weights: Sequence[Tensor]) -> Tensor:
        return (under(weights).forward(weights) - y).reshape(-1)

    r = misfit(weights)
    residuals = [float(r.norm()) / scale]
    mu, mark, marked, status = 1e-3, residuals[0], 0, Status.LIMIT
    for step in range(max_steps + 1):
        if residuals[-1] <= rtol:
            status = Status.CONVERGED
            break
        if residuals[-1] < 0.99 * mark:
            mark, marked = residuals[-1], step
        if step - marked > patience or not math.isfinite(residuals[-1]):
            status = Status.STALLED if math.isfinite(residuals[-1]) else Status.DIVERGED
            break
        if step == max_steps:
            break
        J = jacobian(under(weights), weights)
        # (rows, columns) to (columns, columns): the same least squares, orthogonally reduced
        Q, R = torch.linalg.qr(J) if J.shape[0] > J.shape[1] else (None, J)
        target = -r if Q is None else -(Q.T @ r)
        unit = float(J.square().sum()) / J.shape[1]
        for _ in range(12):
            move, _rank = least_norm(R, target, damping=mu * unit)
            trial = [w + d for w, d in zip(weights, move.split_with_sizes(sizes), strict=True)]
            after = misfit(trial)
            if float(after.norm()) < float(r.norm()):
                weights, r, mu = trial, after, max(mu / 5, 1e-16)
                break
            mu = mu * 4
        residuals.append(float(r.norm()) / scale)
    return DeepSolution(
        status=status,
        detail=figures(residuals),
        residuals=tuple(residuals),
        weights=tuple(weights),
    )


def oriented(network: Chain, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same held network, with the sign of each hidden channel chosen to agree with its masks.

    Under a given support, W(l)'s rows into a unit and W(l+1)'s columns out of it may change sign
    together and no output shows it; under ReLU all would change. The signs of a channel are
    changed where its pre-activations are negative, in the mean over what its masks keep.
    """
    if any(link.bias or link.groups > 1 for link in network.links):
        raise UnholdableError("signs are chosen for networks without biases and groups only")
    turned = [w.clone() for w in weights]
    z = network.x
    for level, link in enumerate(network.links[:-1]):
        z = summed(z[:, link.i] * turned[level][link.j], link.k, link.outputs)
        z = network.masks[level] * z
        total = z.view(len(z), link.channels, -1).sum((0, 2))
        sign = torch.where(total < 0, -1.0, 1.0).to(z)
        # vec is column-major: (entries, out channels), entries of one input channel side by side
        turned[level] = (turned[level].view(-1, link.channels) * sign).reshape(-1)
        out = turned[level + 1].view(link.channels, -1) * sign[:, None]
        turned[level + 1] = out.reshape(-1)
        z = (z.view(len(z), link.channels, -1) * sign[:, None]).reshape(len(z), -1)
    return tuple(turned)
