"""All that is global in a process, to be compared before and after a call."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch


def everything() -> dict[str, Any]:
    """A snapshot, whose parts can be compared by `==`."""
    cuda = torch.backends.cudnn
    state = {
        "torch's generator": torch.get_rng_state().tolist(),
        "NumPy's generator": [str(part) for part in np.random.get_state()],
        "Python's generator": random.getstate(),
        "threads of torch": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "threads": {thread.name for thread in threading.enumerate()},
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            (cuda.deterministic, cuda.benchmark, cuda.allow_tf32),
            torch.get_float32_matmul_precision(),
        ),
        "gradients": (torch.is_grad_enabled(), torch.is_anomaly_enabled()),
        "types": (torch.get_default_dtype(), torch.get_default_device()),
        "autocast": torch.is_autocast_enabled("cpu"),
        "warnings": list(warnings.filters),
        # not by name, which would choose a backend
        "matplotlib": sorted(map(repr, dict.items(matplotlib.rcParams))),
        "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
    }
    if torch.cuda.is_available():
        state["CUDA's generators"] = [s.tolist() for s in torch.cuda.get_rng_state_all()]
    return state


@contextmanager
def nothing_global_changed() -> Iterator[None]:
    before = everything()
    yield
    after = everything()
    changed = [name for name, value in after.items() if value != before[name]]
    assert not changed, f"changed: {', '.join(changed)}"
