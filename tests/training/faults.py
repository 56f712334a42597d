"""A tiny real run that can be killed: each in a process of its own, by SIGKILL, at a chosen moment."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import twostroke as ts
from tests.toy import toy_data, toy_net
from twostroke.data import FlipShift
from twostroke.runs import RunFolder, resumable
from twostroke.training import FitResult

UNTOLD = ("seconds", "stroke_seconds", "eval_seconds")


def run(folder: Path, *, refresh: str, store: str, epochs: int = 7, **options: Any) -> FitResult:
    """The run, from its checkpoint if there is one."""
    resume = options.pop("resume", resumable(folder))
    if not resume:
        RunFolder(folder).clear()
    return ts.fit(
        toy_net(seed=0, norm=True, dropout=0.2),
        toy_data(augmentation=FlipShift(shift=1)),
        alternation=ts.InstanceWise(warmup=1, gap=1, refresh=refresh, store=store),
        epochs=epochs,
        batch_size=20,
        lr=0.02,
        ema_decay=0.9,
        probe=40,
        optimizer="adamw",
        folder=folder,
        resume=resume,
        **options,
    )


def told(result: FitResult) -> dict[str, Any]:
    """Everything of a result that must not depend on when a run was stopped."""
    records = [asdict(record) for record in result.history]
    kept = [{k: v for k, v in record.items() if k not in UNTOLD} for record in records]
    weights = {k: v.flatten().tolist() for k, v in result.model.state_dict().items()}
    return {"metrics": kept, "weights": weights}


def die_at(owner: Any, name: str, nth: int, *, after: bool = False) -> None:
    """From now on the `nth` call of a function is this process's last: killed before it, or after."""
    real = getattr(owner, name)
    calls = 0

    def dies(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, dies)


def in_a_child(work: Callable[[], object]) -> int:
    """Do this in a copy of this process; gives the signal that ended it, or 0.

    What is raised there is printed there, and ends it with SIGABRT.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)
            work()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os.abort()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
