"""Random generators of the process: a call that draws leaves them as it found them."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def generators_kept(device: torch.device | None = None) -> Iterator[None]:
    """Put the generators of torch, NumPy, Python and CUDA back at the end of the block.

    Or of a function: it is a decorator too. `device` is what the block will compute on, so that CUDA's
    generators are there to be kept.
    """
    if device is not None and device.type == "cuda":
        torch.cuda.init()
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    numpy = sys.modules.get("numpy.random")  # nobody draws from what nobody has imported
    ours, theirs = random.getstate(), numpy.get_state() if numpy else None
    with torch.random.fork_rng(devices=list(cuda)):
        try:
            yield
        finally:
            random.setstate(ours)
            if numpy:
                numpy.set_state(theirs)


def seed_generators(seed: int) -> None:
    """Seed them all; within `generators_kept`."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # torch.manual_seed would seed it also when it begins one day
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    if numpy := sys.modules.get("numpy.random"):
        numpy.seed(seed % 2**32)
