"""With which software and on which machine a run was made."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from .._version import __version__


def versions() -> dict[str, Any]:
    """Software and machine, for reports."""
    cuda = torch.cuda.is_available()
    return {
        "twostroke": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
