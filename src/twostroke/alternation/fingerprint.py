"""Fingerprints of a model's structure and of a data set, so that no mask meets what it is not of."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from ..data import Examples, ExampleSource

_SAMPLES = 16


def model_fingerprint(model: nn.Module, *, values: bool = False) -> str:
    """Hash of the names, shapes and types of all parameters and buffers, and of their `values` too if asked."""
    state = hashlib.blake2b(digest_size=16)
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, torch.Tensor):  # not what modules add (get_extra_state)
            state.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            if values:
                plain = tensor.detach().cpu().contiguous().reshape(-1)
                state.update(plain.view(torch.uint8).numpy().data)
    return state.hexdigest()


def data_fingerprint(source: ExampleSource, seed: int, *, whole: bool = False) -> str:
    """Hash of the number of examples, their shape and classes, and 16 of them as view 0 shows them.

    `whole` also takes all labels and images that are in memory (`Examples`).
    """
    state = hashlib.blake2b(digest_size=16)
    count = len(source)
    state.update(f"{count} {source.shape} {source.classes} {seed}\n".encode())
    some = torch.arange(min(_SAMPLES, count)) * count // min(_SAMPLES, count)
    for tensor in source.batch(some, view=0, seed=seed):
        state.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    if whole and isinstance(source, Examples):
        for tensor in (source.labels, source.images):
            state.update(tensor.detach().cpu().contiguous().numpy().data)
    return state.hexdigest()
