"""What is looked at in a teacher before anything is recorded from it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import DataError, SettingsError

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def check_mode(teacher: nn.Module) -> None:
    """Raise `SettingsError` where a part of the teacher is in training mode."""
    for path, module in teacher.named_modules():
        if module.training:
            raise SettingsError(
                f"the teacher{f' ({path})' if path else ''} is in training mode, where its outputs depend "
                "on the batch: call teacher.eval() first"
            )


def check_preprocessing(
    teacher: nn.Module,
    x: Tensor,  # (batch, channels, height, width)
) -> str | None:
    """Compare what enters the teacher's first batch norm with the statistics that it was trained with.

    Raises `DataError` where spread or mean is off by more than a factor of ten, as pixels from 0 to 255
    are for a net of normalised ones. Returns a text where they differ by more than a factor of two, as
    images of something else may, and None where there is nothing to say, or no batch norm.
    """
    found: list[tuple[str, float, float]] = []

    def look(path: str, norm: nn.Module, z: Tensor) -> None:
        mean, var = norm.running_mean, norm.running_var
        if found or not isinstance(mean, Tensor) or not isinstance(var, Tensor):
            return
        z = z.detach().float().movedim(1, 0).flatten(1)
        usual = var.float().clamp(min=1e-12).sqrt()
        spread = float((z.std(1, correction=0) / usual).median())
        shift = float(((z.mean(1) - mean).abs() / usual).median())
        found.append((path, spread, shift))

    hooks = [
        module.register_forward_pre_hook(lambda norm, args, path=path: look(path, norm, args[0]))
        for path, module in teacher.named_modules()
        if isinstance(module, _NORMS)
    ]
    try:
        with torch.no_grad():
            teacher(x)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        return None
    ((path, spread, shift),) = found
    text = (
        f"at {path}, its first batch norm, these images have {spread:.3g} times the spread that the teacher "
        f"was trained with, and a mean {shift:.3g} standard deviations off"
    )
    if not (0.1 < spread < 10 and shift < 10):
        raise DataError(
            f"these images are not preprocessed as the teacher's were: {text}. Scale and normalise them as "
            "in the teacher's training"
        )
    far = abs(math.log2(spread)) > 1 or shift > 1
    return f"{text}: are they preprocessed as its own were?" if far else None
