"""Problem P1 (eq. 22) for any depth: least squares on the weights of a chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .chain import Chain, summed
from .least_squares import levenberg_marquardt
from .recovery import Recovery, figures


@dataclass(frozen=True, kw_only=True)
class DeepSolution(Recovery):
    """What `recover_weights` found: weights (n1,), (n2,), …"""

    weights: tuple[Tensor, ...]


def jacobian(network: Chain, weights: Sequence[Tensor], *, held: bool = True) -> Tensor:
    """Derivative of the output by all weights: (batch · outputs, n1 + n2 + …)."""

    def output(w: Tensor) -> Tensor:
        return network.forward(w.split_with_sizes(network.sizes), held=held).reshape(-1)

    J: Tensor = torch.func.jacfwd(output)(torch.cat(list(weights)))
    return J


def recover_weights(
    network: Chain,
    y: Tensor,
    start: Sequence[Tensor],
    *,
    held: bool = True,
    max_steps: int = 500,
    rtol: float = 1e-13,
) -> DeepSolution:
    """`min Σ ‖y_n - F(x_n; W)‖²` over the weights of every layer, from `start` (n1,), (n2,), …

    `y` is (batch, outputs). Held, the masks are the chain's; with `held=False` they are ReLU's own at
    every step. The status is never `NOT_UNIQUE`: every network has a scale for each hidden unit that no
    output shows.
    """
    sizes = network.sizes
    fit = levenberg_marquardt(
        lambda w: (network.forward(w.split_with_sizes(sizes), held=held) - y).reshape(-1),
        lambda w: jacobian(network, w.split_with_sizes(sizes), held=held),
        torch.cat(list(start)),
        scale=float(y.norm()) or 1.0,
        rtol=rtol,
        max_steps=max_steps,
    )
    return DeepSolution(
        status=fit.status,
        detail=figures(fit.residuals),
        residuals=fit.residuals,
        weights=fit.w.split_with_sizes(sizes),
    )


def oriented(network: Chain, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same held network, with the sign of each hidden channel chosen to agree with its masks.

    Under a given support, W(l)'s rows into a unit and W(l+1)'s columns out of it may change sign
    together and no output shows it; under ReLU all would change. The signs of a channel are
    changed where its pre-activations are negative, in the mean over what its masks keep.
    """
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
