"""Kill runs at drawn moments and resume them: python benchmarks/kill_resume.py --kills 200.

All commands that train: train, dsd, distill, and reproduce with a small net; on data that this script makes.
Each runs in a process of its own, a copy of this one (which saves the time of loading and compiling), is killed
by SIGKILL, goes on by `--resume` (reproduce by the same command), is killed again, and so forth. What it ends
with must be, bit for bit, what a run ends with that was never killed: every file of its folder, but for seconds
and pictures.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file

from common import parser_of, write
from twostroke.cli import main as command_line
from twostroke.reproduction import tasks
from twostroke.training import Settings


class Arm(NamedTuple):
    """A command, without its folder."""

    command: str
    options: tuple[str, ...]
    resumes: bool = True  # by --resume; else by the same words


def arms(root: Path, epochs: int) -> dict[str, Arm]:
    data = ("--data", f"npz:{root / 'data.npz'}")
    quick = (*data, "--batch-size", "40", "--epochs", str(epochs), "--lr", "0.02")
    held = (*quick, "--augmentation", "shift", "--ema-decay", "0.9", "--alternation", "instance")
    held = (*held, "--instance.warmup", "1", "--instance.gap", "1", "--instance.refresh")
    return {
        "train": Arm("train", quick),
        "train, sweep, file": Arm("train", (*held, "sweep", "--instance.store", "file")),
        "train, online, file": Arm("train", (*held, "online", "--instance.store", "file")),
        "train, sweep, host": Arm("train", (*held, "sweep", "--instance.store", "host")),
        "train, batch-wise": Arm("train", (*quick, "--alternation", "batch")),
        "dsd": Arm(
            "dsd",
            (
                *(*data, "--model", "allcnn-mini", "--batch-size", "40"),
                *("--epochs", "2", "2", "2", "--lrs", "0.02", "0.02", "0.01"),
            ),
        ),
        "distill": Arm(
            "distill",
            (
                "--teacher",
                str(root / "whole train"),
                "--batch-size",
                "40",
                "--lr",
                "0.01",
                "--steps",
                "40",
            ),
        ),
        "reproduce": Arm(
            "reproduce",
            ("table2", *data, "--scale", "short", "--seeds", "1", "--only", "cifar10-allcnn-a"),
            resumes=False,
        ),
    }


def small_tasks() -> None:
    """The reproduction's tasks with a net and a length that take seconds."""
    steps = Settings(lr=0.02, batch_size=40, schedule="step", probe=100)
    for name, task in tasks.TASKS.items():
        tasks.TASKS[name] = replace(
            task, model="allcnn-mini", epochs=25, settings=steps, preprocess="none"
        )


def make_data(path: Path, count: int) -> None:
    """Twelve by twelve images whose brightest corner is their class."""
    draw = np.random.default_rng(0)
    sets = {}
    for name, size in (("train", count), ("test", 80)):
        y = np.arange(size) % 4
        x = draw.integers(0, 120, (size, 1, 12, 12))
        for k in range(4):
            x[y == k, :, 6 * (k // 2) : 6 * (k // 2) + 6, 6 * (k % 2) : 6 * (k % 2) + 6] += 90
        sets |= {f"x_{name}": x.astype(np.uint8), f"y_{name}": y}
    np.savez(path, **sets)


def words(arm: Arm, folder: Path) -> list[str]:
    """The command line that begins a run, or goes on with it."""
    if arm.resumes and (folder / "config.toml").exists():
        return [arm.command, "--resume", str(folder)]
    return [arm.command, *arm.options, "--out", str(folder)]


def start(line: list[str], log: Path) -> int:
    """A process of its own that runs a command; what it prints goes to a file."""
    child = os.fork()
    if child:
        return child
    code: Any = 70
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        command_line(line)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def outcome(folder: Path) -> dict[str, Any]:
    """What is in a folder, but for seconds and pictures."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix == ".csv":
            with path.open(newline="") as file:
                rows = [
                    {k: v for k, v in r.items() if "seconds" not in k} for r in csv.DictReader(file)
                ]
            found[name] = rows
        elif path.suffix == ".json":
            found[name] = untimed(json.loads(path.read_text()))
        elif path.suffix == ".safetensors":
            tensors = load_file(path)
            found[name] = {k: (t.dtype, t.shape, t.numpy().tobytes()) for k, t in tensors.items()}
        elif path.suffix not in (".png", ".md"):
            found[name] = path.read_bytes()
    return found


def untimed(value: Any) -> Any:
    if isinstance(value, dict):
        # "reached" has pairs of epochs and seconds
        return {
            k: untimed({t: v[t] and v[t][0] for t in v} if k == "reached" else v)
            for k, v in value.items()
            if "seconds" not in k
        }
    return [untimed(v) for v in value] if isinstance(value, list) else value


def stage(folder: Path) -> str:
    """What was being done when the run was killed, by what it left."""
    left = [p.name for p in folder.rglob("*.partial")]
    if any(".store." in name for name in left):
        return "support stroke"
    if any(name.startswith("support-") for name in left):
        return "masks being copied"
    if left:
        return "a file being written"
    if not list(folder.rglob("checkpoint.safetensors")):
        return "before the first checkpoint, or after the last"
    rounds = len(list(folder.rglob("support-*")))
    return "between round and checkpoint" if rounds > 1 else "steps or evaluation"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=1e9, help="end after so many")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--examples", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    draw, end = random.Random(options.seed), time.monotonic() + options.seconds
    torch.set_num_threads(1)
    small_tasks()
    stages: Counter[str] = Counter()
    table: dict[str, Counter[str]] = {}
    faults: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        make_data(root / "data.npz", options.examples)
        log = root / "log"
        every = arms(root, options.epochs)
        whole, took = {}, {}
        for name, arm in every.items():
            folder = root / f"whole {name}"
            with log.open("w") as out, redirect_stdout(out), redirect_stderr(out):
                for _ in range(
                    2
                ):  # here, so that copies find all loaded and compiled; then once for the time
                    shutil.rmtree(folder, ignore_errors=True)
                    begun = time.perf_counter()
                    with suppress(SystemExit):
                        command_line(words(arm, folder))
                    took[name] = time.perf_counter() - begun
            whole[name] = outcome(folder)
            if not whole[name]:
                raise SystemExit(f"{name}: {log.read_text()}")
            table[name] = Counter(kills=0, runs=0, differ=0, fail=0)
            print(f"{name}: {took[name]:.1f} s, {len(whole[name])} files", flush=True)
        for number, name in enumerate(itertools.cycle(every)):
            folder, row = root / f"killed-{number}", table[name]
            left = draw.randint(1, 4)  # kills of this run; then it may end
            while True:
                child = start(words(every[name], folder), log)
                kills = sum(r["kills"] for r in table.values())
                over = kills >= options.kills or time.monotonic() > end
                if not over and left:
                    left -= 1
                    time.sleep(draw.uniform(0, took[name]))
                    os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                if os.WIFSIGNALED(status):
                    row["kills"] += 1
                    stages[stage(folder)] += 1
                    continue
                break
            row["runs"] += 1
            if status:
                row["fail"] += 1
                faults.append({"command": name, "output": log.read_text()[-2000:]})
            elif (found := outcome(folder)) != whole[name]:
                row["differ"] += 1
                files = [k for k in {**found, **whole[name]} if found.get(k) != whole[name].get(k)]
                faults.append({"command": name, "differs in": ", ".join(files)})
            print(f"{name}: {dict(row)}", flush=True)
            if over:
                break
    counts = {name: dict(row) for name, row in table.items()}
    kills = sum(row["kills"] for row in table.values())
    print(
        json.dumps(
            {"kills": kills, "by command": counts, "killed during": stages, "faults": faults},
            indent=2,
        )
    )
    write(options.out, options, kills=kills, results=counts, stages=dict(stages), faults=faults)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
