"""Whether a block leaves everything as it found it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as hooks
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from twostroke.support.intercept import _active


def what_is_in_place() -> list[Any]:
    """Everything global that a block may have put up."""
    return [
        list(hooks._global_forward_pre_hooks),
        list(hooks._global_forward_hooks),
        list(hooks._global_forward_hooks_always_called),
        _get_current_function_mode_stack(),
        _get_current_dispatch_mode_stack(),
        list(_active.intercepts),
        torch.is_grad_enabled(),
        torch._dynamo.eval_frame._stance.stance,
        list(warnings.filters),
        threading.active_count(),
    ]


@contextmanager
def everything_as_before(*models: nn.Module) -> Iterator[None]:
    """Nothing stays behind, neither globally nor on the models."""
    torch._dynamo.list_backends()  # loaded, so that its stance is looked after too
    before = what_is_in_place()
    states = [{k: v.clone() for k, v in m.state_dict().items()} for m in models]
    attributes = [[sorted(vars(part)) for part in m.modules()] for m in models]
    ours = [
        [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in m.modules()]
        for m in models
    ]
    yield
    assert what_is_in_place() == before
    for model, state, names, hooked in zip(models, states, attributes, ours, strict=True):
        now = model.state_dict()
        assert now.keys() == state.keys()
        assert all(torch.equal(now[key], value) for key, value in state.items())
        assert [sorted(vars(part)) for part in model.modules()] == names
        assert hooked == [
            len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules()
        ]
