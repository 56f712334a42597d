"""What watches over every test, and the data that commands are tried on."""

import signal
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.nn.modules import module as hooks
from torch.overrides import _get_current_function_mode_stack

from tests.toy import toy_tensors

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what a shell runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Toy images, enlarged so that allcnn-mini takes them."""
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    sets = {}
    for name, seed in (("train", 0), ("test", 1)):
        x, y = toy_tensors(120, seed)
        x = ((x + 3) * 40).clamp(0, 255).byte().repeat_interleave(2, 2).repeat_interleave(2, 3)
        sets |= {f"x_{name}": x.numpy(), f"y_{name}": y.numpy()}
    np.savez(path, **sets)
    return f"npz:{path}"
