"""Train with weights of 1, 2 or 4 bits."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...errors import SettingsError
from .inner import inner_layers
from .levels import check_bits, multiples


def quantise(model: nn.Module, bits: int, *, spare_ends: bool = True) -> nn.Module:
    """A copy of `model` that computes with weights of `bits` bits and trains the ones behind them.

    Each weight of convolutions and linear layers is rounded to one of 2^bits levels in every forward pass, with
    a scale for each output channel (`levels`; for a transposed convolution, each input channel). Biases and
    other layers stay as they are; the first and the last layer are spared unless told otherwise.
    The gradient of a rounded weight goes straight through to the one behind it (Bengio et al. 2013), except
    where that would move a weight further out that already lies a step beyond the outermost level.

    The copy has a parametrisation of `torch.nn.utils.parametrize` on these layers: the weight behind is
    `parametrizations.weight.original`. `finish` turns it into a plain module, `save_packed` writes it small.

    Raises `SettingsError` for bits other than 1, 2 and 4, and a network without layers to quantise.
    """
    check_bits(bits)
    student = copy.deepcopy(model).requires_grad_(True)
    for path, layer in inner_layers(student, spare_ends=spare_ends).items():
        if parametrize.is_parametrized(layer):
            raise SettingsError(f"{path} has a parametrisation already: remove it first")
        parametrize.register_parametrization(layer, "weight", FewBits(bits))
    return student


def finish(model: nn.Module) -> nn.Module:
    """A plain copy of a quantised model: its weights are the levels, as floating point."""
    plain = copy.deepcopy(model)
    for path in few_bits(model):
        layer = plain.get_submodule(path)
        levels: Tensor = layer.weight  # type: ignore[assignment]
        # not by remove_parametrizations: it would change the class, which a deep copy shares with its original
        layer.__class__ = type(layer).__bases__[0]
        del layer._modules["parametrizations"]
        layer._parameters = {"weight": nn.Parameter(levels.detach()), **layer._parameters}
    return plain


class FewBits(nn.Module):
    """The parametrisation: a weight to its nearest levels, in its own type."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        """Levels; the gradient goes straight through."""
        levels: Tensor = _few_bits(weight, self.bits)[0]
        return levels


def few_bits(model: nn.Module) -> dict[str, int]:
    """Bits of the quantised layers, by module path."""
    found = {}
    for path, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            (*_, last) = module.parametrizations["weight"]
            if isinstance(last, FewBits):
                found[path] = last.bits
    return found


# an operator of its own: `record` and `hold` follow what is done to activations, and must not take rounding
# of weights for one
@torch.library.custom_op("twostroke::few_bits", mutates_args=())
def _few_bits(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    odd, scale = multiples(weight, bits)
    return odd.mul_(scale), scale


@_few_bits.register_fake
def _(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    levels = torch.empty_like(weight, memory_format=torch.contiguous_format)
    return levels, weight.new_empty(len(weight), *[1] * (weight.ndim - 1))


def _keep(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(inputs[0], output[1])
    ctx.levels = 1 << inputs[1]


def _straight(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None]:
    weight, scale = ctx.saved_tensors
    # descent moves against the gradient
    outward = (weight.abs() > (ctx.levels + 1) * scale) & (weight * grad < 0)
    return grad.masked_fill(outward, 0), None


_few_bits.register_autograd(_straight, setup_context=_keep)
