"""A plain held network as a chain of bilinear links, each linear in its weights and in its input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UnholdableError
from ..support import HardThreshold, Support
from ..support.modules import in_sequence
from .lifting import lift, vec


@dataclass(frozen=True)
class Link:
    """One weight layer: `out[k] = Σ_t w[j_t] z[i_t]` over the triples t with k_t = k.

    `k`, `j`, `i` are (triples,) int64; `w` is the `vec` of a weight of `shape` (out, ...). A
    convolution's Toeplitz matrix is in `k` and `i`, and its shared weights appear once in `j`.
    """

    shape: tuple[int, ...]
    inputs: int
    outputs: int
    k: Tensor
    j: Tensor
    i: Tensor

    @property
    def weights(self) -> int:
        """Number of weights."""
        return torch.Size(self.shape).numel()

    @property
    def channels(self) -> int:
        """Output channels, or units of a fully connected layer."""
        return self.shape[0]


@dataclass(frozen=True)
class Chain:
    """Links with the masks after each, for a batch: everything that eq. 13 fixes but the weights.

    `x` is (batch, inputs), flattened; `masks` one (batch, outputs) a link, of 0 and 1 in x's dtype.
    """

    links: tuple[Link, ...]
    masks: tuple[Tensor, ...]
    x: Tensor

    @property
    def sizes(self) -> tuple[int, ...]:
        """Weights of each link (n1, n2, …)."""
        return tuple(link.weights for link in self.links)

    @property
    def outputs(self) -> int:
        """Outputs of one example."""
        return self.links[-1].outputs

    def forward(self, weights: Sequence[Tensor], *, held: bool = True) -> Tensor:
        """Output for weight vectors (n1,), (n2,), …: (batch, outputs).

        With `held=False`, ReLU's own masks for these weights stand after every link but the last.
        """
        z = self.x
        for level, (link, w) in enumerate(zip(self.links, weights, strict=True)):
            q = summed(z[:, link.i] * w[link.j], link.k, link.outputs)
            z = q * (self.masks[level] if held or level == len(self.links) - 1 else (q > 0).to(q))
        return z


def summed(
    terms: Tensor,  # (..., triples)
    index: Tensor,  # (triples,)
    size: int,
) -> Tensor:
    """Sum the terms of each index: (..., size). Along the first axis, where adding rows is fast."""
    rows = terms.movedim(-1, 0).contiguous()
    return rows.new_zeros(size, *rows.shape[1:]).index_add(0, index, rows).movedim(0, -1)


def linear_link(weight: Tensor) -> Link:
    """Link of a fully connected layer, weight (out, in)."""
    out, ins = weight.shape
    k = torch.arange(out, device=weight.device).repeat_interleave(ins)
    i = torch.arange(ins, device=weight.device).repeat(out)
    return Link((out, ins), ins, out, k, k + out * i, i)


def unfolded(module: nn.Conv2d, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """What a convolution meets at each place of (batch, c, h, w): (batch, fan-in, places), and their grid."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = F.pad(images, module._reversed_padding_repeated_twice, mode=mode)
    kernel, dilation, stride = module.kernel_size, module.dilation, module.stride
    height, width = (
        (side - d * (n - 1) - 1) // s + 1
        for side, n, d, s in zip(padded.shape[2:], kernel, dilation, stride, strict=True)
    )
    return F.unfold(padded, kernel, dilation=dilation, stride=stride), (height, width)


def conv_link(module: nn.Conv2d, shape: tuple[int, int, int]) -> tuple[Link, tuple[int, int, int]]:
    """Link of a convolution of images of `shape` (c, h, w), and the shape of its output."""
    weight, (c, h, w) = module.weight, shape
    out = weight.shape[0]
    # each patch as the places its entries come from, counted from 1 so that padding's zeros show;
    # float64 counts exactly
    places = torch.arange(1, c * h * w + 1, dtype=torch.float64, device=weight.device)
    entries, size = unfolded(module, places.view(1, c, h, w))
    entries = entries[0].round().long()
    positions = entries.shape[1]
    entry, position = torch.nonzero(entries, as_tuple=True)
    channel = torch.arange(out, device=weight.device).repeat_interleave(len(entry))
    entry, position = entry.repeat(out), position.repeat(out)
    link = Link(
        tuple(weight.shape),
        c * h * w,
        out * positions,
        channel * positions + position,
        channel + out * entry,
        entries[entry, position] - 1,
    )
    return link, (out, *size)


def chain(model: nn.Module, support: Support, x: Tensor) -> Chain:
    """Read a network of layers in sequence, with the masks of `support`, for the batch `x`.

    The model is an `nn.Sequential` (nested ones are fine) of `Linear` and `Conv2d`, `ReLU` or
    `HardThreshold`, `Flatten`, `Identity` and `Dropout`; `x` is (batch, features) or (batch, c, h, w).
    As in the paper there is no bias (β = 0, below eq. 19). Raises `UnholdableError` for anything else, by
    name; `linear_map` takes other models.
    """
    links: list[Link] = []
    masks: list[Tensor] = []
    flat = x.detach().flatten(1)
    image = (x.shape[1], x.shape[2], x.shape[3]) if x.ndim == 4 else None
    calls: dict[str, int] = {}
    for name, module in in_sequence(model):
        if isinstance(module, nn.Linear | nn.Conv2d):
            _refuse(name, module, flat if not links else masks[-1], image)
            if isinstance(module, nn.Conv2d):
                assert image is not None
                link, image = conv_link(module, image)
            else:
                link = linear_link(module.weight)
            links.append(link)
            masks.append(flat.new_ones(len(flat), link.outputs))
        elif isinstance(module, nn.ReLU | HardThreshold):
            key = f"{name}#{calls.get(name, 0)}"
            calls[name] = calls.get(name, 0) + 1
            if not links:
                raise UnholdableError(f"{name} stands before the first weight layer: begin with it")
            mask = support[key].flatten(1).to(flat)
            # a second switch on the same layer multiplies: m ∘ m' ∘ q
            masks[-1] = masks[-1] * mask
        elif isinstance(module, nn.Flatten):
            image = None
        elif not isinstance(module, nn.Identity | nn.Dropout):
            raise UnholdableError(
                f"{name} ({type(module).__name__}) has no place in a chain of bilinear layers: use "
                "Linear, Conv2d, ReLU and Flatten; for other models take linear_map"
            )
    if not links:
        raise UnholdableError("the model has no weight layer")
    return Chain(tuple(links), tuple(masks), flat)


def lifted_weights(model: nn.Module) -> Tensor:
    """`v = vec(W1) ⊗ vec(W2) ⊗ …` (eq. 18) of a model that `chain` reads: (n1·n2·…,)."""
    return lift(*weight_vectors(model))


def weight_vectors(model: nn.Module) -> tuple[Tensor, ...]:
    """`vec` of the weight of every link of a model that `chain` reads, first layer first: (n1,), (n2,), …"""
    layers = [m for _, m in in_sequence(model) if isinstance(m, nn.Linear | nn.Conv2d)]
    return tuple(vec(layer.weight.detach()) for layer in layers)


def _refuse(name: str, module: nn.Linear | nn.Conv2d, z: Tensor, image: object) -> None:
    bias: Tensor | None = module.bias
    if bias is not None:
        raise UnholdableError(
            f"{name} has a bias, which the lifted form of the paper sets aside (below eq. 19): build the layer "
            "with bias=False, or take linear_map"
        )
    if isinstance(module, nn.Conv2d):
        if module.groups > 1:
            raise UnholdableError(f"{name} is a convolution in groups: take linear_map")
        if image is None:
            raise UnholdableError(
                f"{name} is a convolution of no image: give x as (batch, c, h, w)"
            )
    elif image is not None:
        raise UnholdableError(f"{name} meets images: put nn.Flatten before it")
    elif module.in_features != z.shape[1]:
        raise UnholdableError(f"{name} takes {module.in_features} inputs and meets {z.shape[1]}")
