"""The path form: the lifted operator without the columns that are zero whatever the data.

A product of weights, one from each layer, reaches an output only if the weights meet: W1[i, a] and
W2[k, i'] need i = i'. For two fully connected layers with h hidden units a share 1 - 1/h of all
columns belongs to pairs that never meet. What is left is one block a hidden unit, and in each block
the unknown is of rank one.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from ..errors import TooLargeError
from ..support import Support
from .chain import Chain, Link, chain
from .lifting import lift
from .operator import LinearOperator

WALK_LIMIT = 20_000_000


class PathOperator(LinearOperator):
    """`F = U p` with one entry of `p` for each path, that is each choice of weights that meet.

    `columns` (paths,) are the places of the paths in the lifted vector. For two layers they are in
    blocks, unless the second has a bias or groups: `p.view(blocks)[i]` is the outer product of the
    weights into hidden channel i and those out of it. `share_of_zeros` is the share of the lifted
    operator's columns that are left out.

    A network is a sum over walks: sequences of triples, one a link, each beginning where the last
    ended. `matvec` sums them, so that its cost is batch × walks. `TooLargeError` above
    `walk_limit`.
    """

    def __init__(self, network: Chain, *, walk_limit: int = WALK_LIMIT) -> None:
        walks = _walks(network.links, walk_limit)
        self.chain = network
        self.sizes = network.sizes
        self._start = network.links[0].i[walks[0]]
        self._units = [link.k[w] for link, w in zip(network.links, walks, strict=True)]
        weights = [link.j[w] for link, w in zip(network.links, walks, strict=True)]
        blocks = None
        if _comes_in_blocks(network.links):
            blocks, self.columns, self._path = _in_blocks(network.links, weights)
        else:
            full = torch.zeros_like(weights[0])
            for size, j in zip(self.sizes, weights, strict=True):
                full = full * size + j
            self.columns, self._path = torch.unique(full, return_inverse=True)
        rows = len(network.x) * network.outputs
        super().__init__(
            (rows, len(self.columns)),
            dtype=network.x.dtype,
            device=network.x.device,
            blocks=blocks,
        )

    @property
    def share_of_zeros(self) -> float:
        """Share of the lifted operator's columns that belong to no path; 1 - 1/h for two layers."""
        return 1 - len(self.columns) / torch.Size(self.sizes).numel()

    def _gains(self, rows: slice) -> Tensor:
        """What each walk hands on, (rows, walks): the input it starts from, if all its units are on."""
        gains = self.chain.x[rows][:, self._start]
        for mask, units in zip(self.chain.masks, self._units, strict=True):
            gains = gains * mask[rows][:, units]
        return gains

    def _slices(self) -> list[slice]:
        size = max(1, (1 << 24) // max(1, len(self._path)))
        return [slice(n, n + size) for n in range(0, len(self.chain.x), size)]

    def _matvec(self, v: Tensor) -> Tensor:
        parts = [v.new_zeros(0, self.chain.outputs)]
        for rows in self._slices():
            walked = self._gains(rows) * v[self._path]
            out = v.new_zeros(len(walked), self.chain.outputs)
            parts.append(out.index_add(1, self._units[-1], walked))
        return torch.cat(parts).reshape(-1)

    def _rmatvec(self, y: Tensor) -> Tensor:
        v = y.new_zeros(self.shape[1])
        for rows in self._slices():
            back = y.view(-1, self.chain.outputs)[rows][:, self._units[-1]]
            v = v.index_add(0, self._path, (self._gains(rows) * back).sum(0))
        return v

    def _dense(self) -> Tensor:
        place = self._units[-1] * self.shape[1] + self._path
        U = self.chain.x.new_zeros(len(self.chain.x), self.chain.outputs * self.shape[1])
        for rows in self._slices():
            U[rows] = U[rows].index_add(1, place, self._gains(rows))
        return U.view(self.shape)

    def restrict(self, v: Tensor) -> Tensor:
        """The entries of a lifted vector `v` (n1·n2·…,) that belong to paths: (paths,)."""
        return v[self.columns]

    def lift(self, *weights: Tensor) -> Tensor:
        """Path products of weight vectors (n1,), (n2,), …: (paths,)."""
        if self.blocks is None:
            return self.restrict(lift(*weights))
        return weights[0][self.columns // self.sizes[1]] * weights[1][self.columns % self.sizes[1]]

    def factors(self, X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
        """Weight vectors (n1,), (n2,) from block factors (h, p) and (h, q), as `unlift_blocks` gives."""
        assert self.blocks is not None, "only two layers come in blocks, the second without bias"
        h, p, q = self.blocks
        first = (self.columns // self.sizes[1]).view(h, p, q)[..., 0]
        second = (self.columns % self.sizes[1]).view(h, p, q)[:, 0]
        one, two = X.new_zeros(self.sizes[0]), Y.new_zeros(self.sizes[1])
        return one.index_put((first,), X), two.index_put((second,), Y)


def path_operator(
    model: nn.Module, support: Support, x: Tensor, *, walk_limit: int = WALK_LIMIT
) -> PathOperator:
    """The path form of `lifted_operator`, for networks whose lifted vector would not fit."""
    return PathOperator(chain(model, support, x), walk_limit=walk_limit)


def _walks(links: tuple[Link, ...], limit: int) -> list[Tensor]:
    """Indices of the triples of each walk, one (walks,) tensor a link."""
    walks = [torch.arange(len(links[0].k), device=links[0].k.device)]
    for before, link in pairwise(links):
        order = torch.argsort(link.i, stable=True)
        counts = torch.bincount(link.i, minlength=link.inputs)
        first = counts.cumsum(0) - counts
        end = before.k[walks[-1]]
        many = counts[end]
        if int(many.sum()) > limit:
            raise TooLargeError(
                f"the network has at least {int(many.sum()):,} walks from an input to an output, "
                f"and the limit is {limit:,}: take a smaller image or network, or a higher walk_limit"
            )
        index = torch.arange(len(end), device=end.device).repeat_interleave(many)
        nth = torch.arange(len(index), device=end.device) - (many.cumsum(0) - many)[index]
        walks = [w[index] for w in walks] + [order[first[end[index]] + nth]]
    return walks


def _comes_in_blocks(links: tuple[Link, ...]) -> bool:
    """Two layers, where each hidden channel has as many weights into it and out of it as the others.

    A bias of the second layer goes out of the constant, which has no weights into it; groups of the
    second layer let a channel meet some outputs only.
    """
    return len(links) == 2 and links[1].groups == 1 and not links[1].bias


def _in_blocks(
    links: tuple[Link, ...], weights: list[Tensor]
) -> tuple[tuple[int, int, int], Tensor, Tensor]:
    """Blocks (h, p, q), the lifted place of each of their entries, and the entry of each walk."""
    one, two = links
    h, out = one.channels, two.channels
    p, q = one.weights // h, two.weights // h
    taps = q // out  # weights of the second layer between one hidden channel and one output channel

    def place(j1: Tensor, j2: Tensor) -> Tensor:
        within = (j2 // out % taps) * out + j2 % out
        return (j1 % h * p + j1 // h) * q + within

    i, a, b = torch.meshgrid(
        *(torch.arange(n, device=one.k.device) for n in (h, p, q)), indexing="ij"
    )
    j1 = a * h + i
    j2 = (i * taps + b // out) * out + b % out
    return (h, p, q), (j1 * two.weights + j2).reshape(-1), place(*weights)
