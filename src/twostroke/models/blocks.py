"""What the models here are made of: a convolution with its ReLU, its initialisation, its checks."""

from __future__ import annotations

from torch import nn

from ..errors import SettingsError


def conv(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int | None = None,
    batch_norm: bool = False,
    relu: bool = True,
) -> list[nn.Module]:
    """Return a square convolution and what follows it: batch norm and ReLU, each if wanted.

    Left out, `padding` is half the kernel, so that (batch, in_channels, h, w) becomes
    (batch, out_channels, ⌈h / stride⌉, ⌈w / stride⌉). Batch norm has a shift of its own, so the
    convolution before it has no bias. The ReLU is not in place, so
    that a hook on the convolution sees the pre-activation.
    """
    padding = kernel // 2 if padding is None else padding
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=not batch_norm)
    ]
    if batch_norm:
        layers.append(nn.BatchNorm2d(out_channels))
    if relu:
        layers.append(nn.ReLU())
    return layers


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions of `model`, in the order in which they were registered."""
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def he_init(model: nn.Module) -> None:
    """Initialise every convolution of `model` for ReLU (He et al. 2015): fan in, zero bias."""
    for layer in convolutions(model):
        nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        zero_bias(layer)


def zero_bias(layer: nn.Conv2d) -> None:
    """Set the bias of `layer` to zero, if it has one."""
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def require_positive(**numbers: int) -> None:
    """Raise `SettingsError` for any number below 1, by its name."""
    for name, number in numbers.items():
        if number < 1:
            raise SettingsError(f"{name} must be 1 or more, not {number}")


def require_probability(**rates: float) -> None:
    """Raise `SettingsError` for any dropout rate below 0 or that drops everything, by its name."""
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise SettingsError(f"{name} must be at least 0 and below 1, not {rate}")
