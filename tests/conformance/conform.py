"""What any model goes through: held exactly, and nothing of it left behind."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import twostroke as ts
from twostroke.support import Check

FLAGS = [
    torch.is_grad_enabled,
    torch.is_inference_mode_enabled,
    torch.is_autocast_enabled,
    torch.get_default_dtype,
    torch.get_num_threads,
    torch.are_deterministic_algorithms_enabled,
    lambda: torch.backends.cudnn.benchmark,
]


def state(model: nn.Module) -> dict[str, Any]:
    """All that a user could find changed: of the model, of PyTorch and of the process."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "values": {name: bits(t) for name, t in tensors.items()},
        "the same tensors": {name: id(t) for name, t in tensors.items()},
        "gradients": {
            n: None if p.grad is None else bits(p.grad) for n, p in model.named_parameters()
        },
        "versions of parameters": {name: p._version for name, p in model.named_parameters()},
        "modules": [(name, type(m), m.training) for name, m in model.named_modules()],
        "their attributes": {name: sorted(vars(m)) for name, m in model.named_modules()},
        "their hooks": [
            len(v) for m in model.modules() for k, v in vars(m).items() if "_hooks" in k
        ],
        "global hooks": [
            len(v)
            for k, v in vars(hooks).items()
            if k.startswith("_global") and "hooks" in k and isinstance(v, dict)
        ],
        "modes": [_get_current_function_mode_stack(), _get_current_dispatch_mode_stack()],
        "flags": [flag() for flag in FLAGS],
        "generators": [bits(torch.get_rng_state()), repr(np.random.get_state()), random.getstate()],
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "files": sorted(open_files()),
    }


def open_files() -> list[str]:
    """Regular files that this process has open; none where the system does not tell."""
    links = [link for link in Path("/proc/self/fd").glob("*") if link.is_file()]
    return [str(link.resolve()) for link in links]


def bits(tensor: Tensor) -> tuple[Any, ...]:
    plain = tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8)
    return tensor.dtype, tuple(tensor.shape), plain.numpy().tobytes()


def conform(model: nn.Module, inputs: Any, **options: Any) -> Check:
    """Held right after it was recorded, `model` computes the same bits, and is left as it was."""
    given = [t.clone() for t in inputs] if isinstance(inputs, tuple) else inputs.clone()
    before = state(model)
    found = ts.check(model, inputs, **options)
    after = state(model)
    for name, value in before.items():
        assert after[name] == value, f"{name} changed"
    same = (
        torch.equal(inputs, given)
        if isinstance(given, Tensor)
        else all(map(torch.equal, inputs, given))
    )
    assert same, "the inputs changed"
    assert found.exact, str(found)
    return found
