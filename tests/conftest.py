"""Fixtures that watch over every test."""

from collections.abc import Iterator

import pytest
import torch
from torch.nn.modules import module as hooks
from torch.overrides import _get_current_function_mode_stack


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a global hook or a function mode in place."""
    yield
    left = [*hooks._global_forward_pre_hooks, *hooks._global_forward_hooks]
    assert not left, "global module hooks stayed behind"
    assert not _get_current_function_mode_stack(), "a function mode stayed on the stack"


@pytest.fixture(autouse=True)
def _same_weights_every_time() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
