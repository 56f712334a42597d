"""Which processes a run has: the launcher says so, torchrun or `accelerate launch`."""

from __future__ import annotations

import importlib.util
import os

import torch
import torch.distributed as dist

from ..errors import SettingsError
from .base import Processes

_NO_SHARDS = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}


def launched() -> int:
    """Number of processes that this one was launched with, itself included."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    number = os.environ.get("WORLD_SIZE", "1")
    return int(number) if number.isdecimal() and "RANK" in os.environ else 1


def speaks() -> bool:
    """Whether this process should print, before it has met the others: one on each machine does."""
    return launched() == 1 or os.environ.get("LOCAL_RANK", "0") == "0"


def device_named(name: str) -> torch.device:
    """The device of that name; "auto" is the GPU where there is one.

    Raises `SettingsError` where the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        known = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise SettingsError(
            f"device {name!r} cannot be used here ({str(error).splitlines()[0]}): "
            f"there is {', '.join(known)}"
        ) from None
    return device


def processes_of(
    *,
    device: str = "auto",
    precision: str = "fp32",
    sync_batch_norm: bool = False,
    timeout: float = 600.0,
) -> Processes:
    """The processes of the run that this one was launched for; waits until all of them are there.

    Raises `SettingsError` where Accelerate is missing or was told to do what this library does not,
    `ProcessError` where the others do not come.
    """
    count = launched()
    if count == 1:
        if sync_batch_norm:
            raise SettingsError(
                "sync_batch_norm takes batch norm's statistics over several processes, and this is "
                "one: launch with torchrun or accelerate launch, or leave it out"
            )
        return Processes()
    for name, what in _NO_SHARDS.items():
        if os.environ.get(name, "").lower() == "true":
            raise SettingsError(
                f"accelerate was told to use {what}, which cuts parameters to pieces: held networks "
                "need whole ones; launch with --multi_gpu (DistributedDataParallel)"
            )
    launcher = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launcher not in ("no", {"bf16": "bf16", "fp32": "no"}[precision]):
        raise SettingsError(
            f"accelerate was launched with mixed_precision={launcher} and the run is to compute in "
            f"{precision}: the run's own setting decides, so launch with --mixed_precision no and "
            "say precision='fp32' or 'bf16'"
        )
    if device not in ("auto", "cpu", "cuda"):
        raise SettingsError(
            f"device {device!r} for {count} processes: each takes the one that the launcher gives it; "
            "say 'auto', 'cpu' or 'cuda'"
        )
    cpu = device == "cpu" or not torch.cuda.is_available()
    if device == "cuda" and cpu:
        device_named(device)  # raises, since there is no GPU
    if sync_batch_norm and cpu:
        raise SettingsError(
            "sync_batch_norm works between GPUs only: leave it out, and each process takes its own "
            "statistics"
        )
    if importlib.util.find_spec("accelerate") is None:
        raise SettingsError(
            f"this is one of {count} processes (WORLD_SIZE={count}), for which accelerate is needed: "
            "pip install 'twostroke[scale]', or launch one process"
        )
    from .several import Several  # which imports DistributedDataParallel

    return Several(cpu=cpu, timeout=timeout, sync_batch_norm=sync_batch_norm)
