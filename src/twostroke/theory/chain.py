"""A plain held network as a chain of bilinear links, each linear in its weights and in its input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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

    A bias is a weight from a constant input: with `bias`, w goes on with one entry an output channel.
    The constant 1 is one more input, the last; with `constant` it is handed on as one more output,
    by one more entry of w, the last, whose value is 1.
    """

    shape: tuple[int, ...]
    inputs: int
    outputs: int
    k: Tensor
    j: Tensor
    i: Tensor
    groups: int = 1
    bias: bool = False
    constant: bool = False

    @property
    def weights(self) -> int:
        """Number of weights, bias and constant among them."""
        return torch.Size(self.shape).numel() + self.channels * self.bias + self.constant

    @property
    def channels(self) -> int:
        """Output channels, or units of a fully connected layer."""
        return self.shape[0]


@dataclass(frozen=True)
class Chain:
    """Links with the masks after each, for a batch: everything that eq. 13 fixes but the weights.

    `x` is (batch, inputs), flattened, with a column of ones where there are biases; `masks` one
    (batch, outputs) a link, of 0 and 1 in x's dtype. `names` are the module paths of the links.
    """

    links: tuple[Link, ...]
    masks: tuple[Tensor, ...]
    x: Tensor
    names: tuple[str, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Weights of each link (n1, n2, …)."""
        return tuple(link.weights for link in self.links)

    @property
    def outputs(self) -> int:
        """Outputs of one example."""
        return self.links[-1].outputs

    def forward(self, weights: Sequence[Tensor]) -> Tensor:
        """Output of the held network for weight vectors (n1,), (n2,), …: (batch, outputs)."""
        z = self.x
        for link, mask, w in zip(self.links, self.masks, weights, strict=True):
            z = mask * summed(z[:, link.i] * w[link.j], link.k, link.outputs)
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


def conv_link(module: nn.Conv2d, shape: tuple[int, int, int]) -> tuple[Link, tuple[int, int, int]]:
    """Link of a convolution of images of `shape` (c, h, w), and the shape of its output."""
    weight, (c, h, w) = module.weight, shape
    out, kernel = weight.shape[0], tuple(weight.shape[2:])
    # each patch as the places its entries come from, counted from 1 so that padding's zeros show;
    # float64 counts exactly
    places = torch.arange(1, c * h * w + 1, dtype=torch.float64, device=weight.device)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padding = module._reversed_padding_repeated_twice
    padded = F.pad(places.view(1, c, h, w), padding, mode=mode)
    dilation, stride = tuple(module.dilation), tuple(module.stride)
    patches = F.unfold(padded, kernel, dilation=dilation, stride=stride)[0].round().long()
    positions = patches.shape[1]
    # a group of output channels meets the entries of its own input channels
    patches = patches.view(module.groups, -1, positions).repeat_interleave(out // module.groups, 0)
    channel, entry, position = torch.nonzero(patches, as_tuple=True)
    link = Link(
        tuple(weight.shape),
        c * h * w,
        out * positions,
        channel * positions + position,
        channel + out * entry,
        patches[channel, entry, position] - 1,
        module.groups,
    )
    size = [
        (side - d * (n - 1) - 1) // s + 1
        for side, n, d, s in zip(padded.shape[2:], kernel, dilation, stride, strict=True)
    ]
    return link, (out, size[0], size[1])


def chain(model: nn.Module, support: Support, x: Tensor) -> Chain:
    """Read a network of layers in sequence, with the masks of `support`, for the batch `x`.

    The model is an `nn.Sequential` (nested ones are fine) of `Linear` and `Conv2d`, `ReLU` or
    `HardThreshold`, `Flatten`, `Identity` and `Dropout`; `x` is (batch, features) or (batch, c, h, w).
    The paper sets the bias aside (β = 0, below eq. 19); here a bias is a weight from a constant
    input, which every link up to the last bias hands on (see `Link`). Raises `UnholdableError` for
    anything else, by name; `linear_map` takes other models.
    """
    links: list[Link] = []
    masks: list[Tensor] = []
    names: list[str] = []
    biased: list[bool] = []
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
            biased.append(module.bias is not None)
            names.append(name)
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
    return _with_biases(Chain(tuple(links), tuple(masks), flat, tuple(names)), biased)


def _with_biases(network: Chain, biased: list[bool]) -> Chain:
    """Append the constant input, and let every link before the last bias hand it on."""
    if not any(biased):
        return network
    links, masks = list(network.links), list(network.masks)
    last = max(n for n, has in enumerate(biased) if has)
    for n in range(last + 1):
        link, has, on = links[n], biased[n], n < last
        k, j, i = [link.k], [link.j], [link.i]
        units = torch.arange(link.outputs, device=link.k.device)
        if has:
            k.append(units)
            j.append(link.weights + units // (link.outputs // link.channels))
            i.append(torch.full_like(units, link.inputs))
        if on:
            k.append(units.new_tensor([link.outputs]))
            j.append(units.new_tensor([link.weights + link.channels * has]))
            i.append(units.new_tensor([link.inputs]))
            masks[n] = torch.cat([masks[n], masks[n].new_ones(len(masks[n]), 1)], 1)
        links[n] = replace(
            link,
            inputs=link.inputs + 1,
            outputs=link.outputs + on,
            k=torch.cat(k),
            j=torch.cat(j),
            i=torch.cat(i),
            bias=has,
            constant=on,
        )
    x = torch.cat([network.x, network.x.new_ones(len(network.x), 1)], 1)
    return replace(network, links=tuple(links), masks=tuple(masks), x=x)


def lifted_weights(model: nn.Module) -> Tensor:
    """`v = vec(W1) ⊗ vec(W2) ⊗ …` (eq. 18) of a model that `chain` reads: (n1·n2·…,)."""
    return lift(*weight_vectors(model))


def weight_vectors(model: nn.Module) -> tuple[Tensor, ...]:
    """The vector of every link of a model that `chain` reads, first layer first.

    It is `vec` of the weight, then the bias, then the 1 of a constant that is handed on.
    """
    layers = [m for _, m in in_sequence(model) if isinstance(m, nn.Linear | nn.Conv2d)]
    last = max((n for n, layer in enumerate(layers) if layer.bias is not None), default=-1)
    vectors = []
    for n, layer in enumerate(layers):
        w = [vec(layer.weight.detach())]
        if layer.bias is not None:
            w.append(layer.bias.detach())
        if n < last:
            w.append(w[0].new_ones(1))
        vectors.append(torch.cat(w))
    return tuple(vectors)


def _refuse(name: str, module: nn.Linear | nn.Conv2d, z: Tensor, image: object) -> None:
    if isinstance(module, nn.Conv2d):
        if image is None:
            raise UnholdableError(
                f"{name} is a convolution of no image: give x as (batch, c, h, w)"
            )
    elif image is not None:
        raise UnholdableError(f"{name} meets images: put nn.Flatten before it")
    elif module.in_features != z.shape[1]:
        raise UnholdableError(f"{name} takes {module.in_features} inputs and meets {z.shape[1]}")
