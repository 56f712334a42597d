"""Weights that are drawn again."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from ...errors import SettingsError


def draw(
    model: nn.Module,  # on the CPU
    seed: int,
) -> None:
    """Draw all weights again, in place, by `seed`; torch's generators are left as they were.

    Convolutions and linear layers are drawn for ReLU (He et al. 2015: normal, fan in, zero bias), since
    networks without batch norm do not learn from PyTorch's own initialisation; other layers reset
    themselves. Raises `SettingsError` for parameters of a module that cannot.
    """
    modules = [(path, m) for path, m in model.named_modules() if m._parameters]
    for path, module in modules:
        if not callable(getattr(module, "reset_parameters", None)):
            raise SettingsError(
                f"{path}: {type(module).__name__} has parameters of its own and no reset_parameters, so they "
                "cannot be drawn again: leave fresh=True out, which keeps the teacher's"
            )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for _, module in modules:
            module.reset_parameters()
            if isinstance(module, _ConvNd | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
