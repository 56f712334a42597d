"""The path form of two layers: the lifted operator without the columns that are zero whatever the data.

A product of weights, one from each layer, reaches an output only if the weights meet: W1[i, a] and
W2[k, i'] need i = i'. With h hidden units a share 1 - 1/h of all columns belongs to pairs that never
meet. What is left is one block a hidden unit, and in each block the unknown is of rank one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import UnholdableError
from ..support import Support
from .chain import Chain, chain
from .lifted import first_layer
from .operator import LinearOperator


class PathOperator(LinearOperator):
    """`F = U p` with one entry of `p` for each path, that is each pair of weights that meet.

    `p.view(blocks)[i]` is the outer product of the weights into hidden channel i and those out of it;
    blocks are (h, p, q). `columns` (paths,) are the places of the paths in the lifted vector.
    `share_of_zeros` is the share of the lifted operator's columns that are left out, 1 - 1/h.
    """

    def __init__(self, network: Chain) -> None:
        if len(network.links) != 2:
            raise UnholdableError(
                f"the path form is for two layers, not {len(network.links)}: take lifted_operator"
            )
        one, two = network.links
        h, p, q = one.channels, one.weights // one.channels, two.weights // one.channels
        super().__init__(
            (len(network.x) * network.outputs, h * p * q),
            dtype=network.x.dtype,
            device=network.x.device,
            blocks=(h, p, q),
        )
        self.blocks: tuple[int, int, int]
        self.chain = network
        self.sizes = network.sizes
        out, taps = two.channels, q // two.channels  # taps: weights from one channel to an output
        i, a, b = torch.meshgrid(
            *(torch.arange(n, device=self.device) for n in (h, p, q)), indexing="ij"
        )
        self.columns = ((a * h + i) * two.weights + (i * taps + b // out) * out + b % out).flatten()
        # of each triple of the second layer: its place in the block of the channel that it starts from
        self._within = two.j // out % taps * out + two.j % out
        units = torch.arange(one.outputs, device=self.device)
        self._channel = units // (one.outputs // h)
        # what each hidden unit makes of each weight of its own channel: (batch, units, p)
        first = first_layer(network).view(-1, one.outputs, p, h)
        self._first = first[:, units, :, self._channel].movedim(0, 1)

    @property
    def share_of_zeros(self) -> float:
        """Share of the lifted operator's columns that belong to no path."""
        return 1 - len(self.columns) / torch.Size(self.sizes).numel()

    def _matvec(self, v: Tensor) -> Tensor:
        two, mask = self.chain.links[1], self.chain.masks[1]
        paths = torch.einsum("nup,upq->nuq", self._first, v.view(self.blocks)[self._channel])
        out = v.new_zeros(mask.shape).index_add(1, two.k, paths[:, two.i, self._within])
        return (out * mask).reshape(-1)

    def _dense(self) -> Tensor:
        (h, p, q), two, mask = self.blocks, self.chain.links[1], self.chain.masks[1]
        U = mask.new_zeros(len(mask), two.outputs * h * q, p)
        place = (two.k * h + self._channel[two.i]) * q + self._within
        U.index_add_(1, place, self._first[:, two.i])
        U = U.view(len(mask), two.outputs, h, q, p).transpose(3, 4) * mask[..., None, None, None]
        return U.reshape(self.shape)

    def restrict(self, v: Tensor) -> Tensor:
        """The entries of a lifted vector `v` (n1·n2,) that belong to paths: (paths,)."""
        return v[self.columns]

    def lift(self, first: Tensor, second: Tensor) -> Tensor:
        """Path products of weight vectors (n1,), (n2,): (paths,)."""
        return first[self.columns // self.sizes[1]] * second[self.columns % self.sizes[1]]

    def factors(self, X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
        """Weight vectors (n1,), (n2,) from block factors (h, p) and (h, q), as `unlift_blocks` gives."""
        first = (self.columns // self.sizes[1]).view(self.blocks)[..., 0]
        second = (self.columns % self.sizes[1]).view(self.blocks)[:, 0]
        one, two = X.new_zeros(self.sizes[0]), Y.new_zeros(self.sizes[1])
        return one.index_put((first,), X), two.index_put((second,), Y)


def path_operator(model: nn.Module, support: Support, x: Tensor) -> PathOperator:
    """The path form of `lifted_operator`, h times smaller.

    Raises `UnholdableError` for what `chain` refuses, and for other than two layers.
    """
    return PathOperator(chain(model, support, x))
