"""Kill a run at drawn moments and resume it, until so many kills: python benchmarks/kill_resume.py --kills 30.

Each run is `twostroke train` as a program, on data that this script makes. It is killed by SIGKILL, then
`twostroke train --resume` goes on, and is killed again, and so forth. What it ends with must be, bit for
bit, what a run ends with that was never killed: weights, and metrics but for the columns of seconds.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from twostroke.training.run import versions

ARMS = {  # (refresh, store)
    "sweep, file": ("sweep", "file"),
    "online, file": ("online", "file"),
    "running, file": ("running", "file"),
    "sweep, host": ("sweep", "host"),
}


def make_data(path: Path, count: int) -> None:
    """Twelve by twelve images whose brightest corner is their class."""
    draw = np.random.default_rng(0)
    sets = {}
    for name, size in (("train", count), ("test", 200)):
        y = np.arange(size) % 4
        x = draw.integers(0, 120, (size, 1, 12, 12))
        for k in range(4):
            x[y == k, :, 6 * (k // 2) : 6 * (k // 2) + 6, 6 * (k % 2) : 6 * (k % 2) + 6] += 90
        sets |= {f"x_{name}": x.astype(np.uint8), f"y_{name}": y}
    np.savez(path, **sets)


def command(folder: Path, resume: bool, data: Path, refresh: str, store: str, epochs: int):
    program = [sys.executable, "-m", "twostroke", "train"]
    if resume:
        return [*program, "--resume", str(folder)]
    return [
        *program,
        *("--data", f"npz:{data}", "--augment", "shift", "--alternation", "instance"),
        *("--warmup", "1", "--gap", "1", "--refresh", refresh, "--store", store),
        *("--epochs", str(epochs), "--batch-size", "40", "--lr", "0.02", "--average", "0.9"),
        *("--out", str(folder)),
    ]


def outcome(folder: Path) -> tuple[list[dict[str, str]], dict[str, torch.Tensor]]:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [{k: v for k, v in r.items() if "seconds" not in k} for r in csv.DictReader(file)]
    return rows, load_file(folder / "model.safetensors")


def stage(folder: Path) -> str:
    """What was being done when the run was killed, by what it left."""
    left = [p.name for p in folder.glob("*.partial")] if folder.exists() else []
    if any(".store." in name for name in left):
        return "support stroke"
    if any(name.startswith("support-") for name in left):
        return "masks being copied"
    if left:
        return "a file being written"
    if not (folder / "checkpoint.safetensors").exists():
        return "before the first checkpoint"
    rounds = len(list(folder.glob("support-*")))
    return "between round and checkpoint" if rounds > 1 else "steps or evaluation"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--examples", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    stages: Counter[str] = Counter()
    finished, different, failed = 0, [], []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        make_data(root / "data.npz", options.examples)
        whole, took = {}, {}
        for arm, (refresh, store) in ARMS.items():
            folder = root / f"whole-{refresh}-{store}"
            start = time.perf_counter()
            run = command(folder, False, root / "data.npz", refresh, store, options.epochs)
            subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
            took[arm] = time.perf_counter() - start
            whole[arm] = outcome(folder)
        kills = 0
        while kills < options.kills:
            arm = list(ARMS)[finished % len(ARMS)]
            refresh, store = ARMS[arm]
            folder = root / f"killed-{finished}"
            while True:
                resume = (folder / "config.toml").exists()
                run = command(folder, resume, root / "data.npz", refresh, store, options.epochs)
                program = subprocess.Popen(
                    run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                )
                text = ""
                if kills < options.kills:
                    while "masks are kept" not in text and (line := program.stdout.readline()):
                        text += line
                    time.sleep(draw.uniform(0, took[arm] / 4))
                    if program.poll() is None:
                        program.send_signal(signal.SIGKILL)
                text += program.communicate()[0]
                if program.returncode == -signal.SIGKILL:
                    kills += 1
                    stages[stage(folder)] += 1
                    continue
                if program.returncode:
                    failed.append({"arm": arm, "output": text[-2000:]})
                break
            if program.returncode == 0:
                rows, weights = outcome(folder)
                same = rows == whole[arm][0] and all(
                    torch.equal(weights[k], v) for k, v in whole[arm][1].items()
                )
                if not same:
                    different.append(arm)
            finished += 1
            print(
                f"{kills} kills, {finished} runs finished, {len(different)} differ, {len(failed)} fail"
            )
    result = {
        "kills": kills,
        "runs": finished,
        "different": different,
        "failed": failed,
        "killed during": dict(stages),
    }
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        kept = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
        document = {"versions": versions(), "options": kept, "results": result}
        options.out.write_text(json.dumps(document, indent=2) + "\n")
    sys.exit(bool(different or failed))


if __name__ == "__main__":
    main()
