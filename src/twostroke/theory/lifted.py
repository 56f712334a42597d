"""The lifted operator U of eq. 14–20: what a held network is to the product of all its weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..support import Support
from .chain import Chain, chain
from .operator import LinearOperator


def first_layer(network: Chain) -> Tensor:
    """U(1) of eq. 14, `xᵀ ⊗ M(1)` for a fully connected layer: (batch, outputs of the first link, n1)."""
    link, x = network.links[0], network.x
    U = x.new_zeros(len(x), link.outputs * link.weights)
    U.index_add_(1, link.k * link.weights + link.j, x[:, link.i])
    return U.view(len(x), link.outputs, link.weights) * network.masks[0][..., None]


class LiftedOperator(LinearOperator):
    """`F = U v` (eq. 19) with `v = vec(W1) ⊗ vec(W2) ⊗ …`, one row for each output of each example.

    `shape` is (batch · outputs, n1·n2·…). `matvec` takes any vector of lifted size, product or
    not, and contracts one layer at a time; the matrix is formed by `dense` alone, through the
    paper's own recursion (eq. 17, column-major `vec`). Both grow with the product of all layers'
    sizes: `PathOperator` leaves out the columns that are zero whatever the data.
    """

    def __init__(self, network: Chain) -> None:
        sizes = network.sizes
        super().__init__(
            (len(network.x) * network.outputs, torch.Size(sizes).numel()),
            dtype=network.x.dtype,
            device=network.x.device,
            blocks=(1, sizes[0], sizes[1]) if len(sizes) == 2 else None,
        )
        self.chain = network
        self.sizes = sizes

    def _matvec(self, v: Tensor) -> Tensor:
        Z = first_layer(self.chain) @ v.view(
            self.sizes[0], -1
        )  # (batch, units, the weights to come)
        for link, mask in zip(self.chain.links[1:], self.chain.masks[1:], strict=True):
            Z = Z.view(len(Z), link.inputs, link.weights, -1)
            # a unit meets only its own weights: of (input, weight) pairs, those of the triples
            q = Z.new_zeros(len(Z), link.outputs, Z.shape[-1])
            Z = q.index_add(1, link.k, Z[:, link.i, link.j]) * mask[..., None]
        return Z.reshape(-1)

    def _dense(self) -> Tensor:
        U = first_layer(self.chain)
        for link, mask in zip(self.chain.links[1:], self.chain.masks[1:], strict=True):
            batch, _, columns = U.shape
            grown = U.new_zeros(batch, link.outputs * link.weights, columns)
            grown.index_add_(1, link.k * link.weights + link.j, U[:, link.i])
            grown = grown.view(batch, link.outputs, link.weights, columns) * mask[..., None, None]
            U = grown.transpose(2, 3).reshape(batch, link.outputs, columns * link.weights)
        return U.flatten(0, 1)


def lifted_operator(model: nn.Module, support: Support, x: Tensor) -> LiftedOperator:
    """U of a plain network (see `chain` for which) for the batch `x` and its support (eq. 19, 23).

    `U.matvec(lifted_weights(model))` is the held network's output, flattened, examples first.
    """
    return LiftedOperator(chain(model, support, x))
