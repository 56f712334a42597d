"""Altered bytes and full disks: python benchmarks/disk_faults.py.

Each byte of each file with a checksum, or so many of them evenly, is altered in one bit: the file must be
refused by its name. Each command that trains runs on disks that are full after so many bytes (Linux and root
are needed, for a small tmpfs): it must end with exit code 2 and without a traceback; with room again it goes
on, and ends with the files of a run that had room from the beginning.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from common import parser_of, write
from fuzz_files import TARGETS
from kill_resume import arms, make_data, outcome, small_tasks, start, words
from twostroke.errors import TwostrokeError

SEALED = ("support", "guide", "store", "checkpoint", "weights", "student")


def flips(most: int, root: Path) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Of each kind of file: bytes altered, and how many were named."""
    table, faults = {}, []
    for name in SEALED:
        target = TARGETS[name]
        (root / name).mkdir()
        path = target.make(root / name)
        whole = path.read_bytes()
        places = range(0, len(whole), max(1, len(whole) // most))
        row = table[name] = {"bytes": len(whole), "altered": len(places), "named": 0}
        for k, place in enumerate(places):
            altered = bytearray(whole)
            altered[place] ^= 1 << k % 8
            path.write_bytes(altered)
            try:
                target.read(path)
            except TwostrokeError as error:
                row["named"] += path.name in str(error)
            except Exception as error:
                faults.append(f"{name}, byte {place}: {type(error).__name__}: {error}")
        path.write_bytes(whole)
        print(name, row, flush=True)
    return table, faults


def full_disks(
    options: argparse.Namespace, root: Path
) -> tuple[dict[str, Counter[str]], list[dict[str, object]]]:
    """Of each command: disks tried, refused for want of room, and gone on with."""
    disk, log = root / "disk", root / "disk log"
    disk.mkdir()
    make_data(root / "data.npz", options.examples)
    table: dict[str, Counter[str]] = {}
    faults: list[dict[str, object]] = []
    every = arms(root, options.epochs)
    end = time.monotonic() + options.seconds
    for name, arm in every.items():
        whole = root / f"whole {name}"
        os.waitpid(start(words(arm, whole), log), 0)
        if name in options.skip:  # it may be the teacher of others
            continue
        known, row = outcome(whole), Counter(disks=0, refused=0, same=0)
        table[name] = row
        pages = sum(-(-p.stat().st_size // 4096) for p in whole.rglob("*") if p.is_file())
        for size in itertools.chain(
            range(1, 6), range(6, 2 * pages, max(1, pages // options.disks))
        ):
            if time.monotonic() > end:
                break
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={4096 * size}", "tmpfs", disk], check=True
            )
            try:
                _, status = os.waitpid(start(words(arm, disk / "run"), log), 0)
                code, said = os.waitstatus_to_exitcode(status), log.read_text()
                row["disks"] += 1
                if code not in (0, 2) or "Traceback" in said:
                    faults.append(
                        {"command": name, "pages": size, "code": code, "said": said[-900:]}
                    )
                row["refused"] += code == 2
                subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
                if not (disk / "run" / "config.toml").exists():
                    shutil.rmtree(disk / "run", ignore_errors=arm.resumes)
                _, status = os.waitpid(start(words(arm, disk / "run"), log), 0)
                found = outcome(disk / "run")
                if status or found != known:
                    files = [k for k in {**known, **found} if known.get(k) != found.get(k)]
                    faults.append(
                        {
                            "command": name,
                            "pages": size,
                            "differs": files,
                            "said": log.read_text()[-900:],
                        }
                    )
                else:
                    row["same"] += 1
            finally:
                subprocess.run(["umount", disk], check=True)
        print(name, dict(row), flush=True)
    return table, faults


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--most", type=int, default=2000, help="bytes altered in a file")
    parser.add_argument("--disks", type=int, default=8, help="disks of a command, about")
    parser.add_argument(
        "--skip", nargs="*", default=(), help="commands that do not run on full disks"
    )
    parser.add_argument("--seconds", type=float, default=1e9, help="no new disk after so many")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--examples", type=int, default=160)
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    small_tasks()
    with tempfile.TemporaryDirectory() as folder:
        altered, faults = flips(options.most, Path(folder))
        disks, more = full_disks(options, Path(folder))
    print(json.dumps([*faults, *more], indent=2))
    counts = {name: dict(row) for name, row in disks.items()}
    write(options.out, options, altered=altered, disks=counts, faults=[*faults, *more])
    sys.exit(bool(faults or more))


if __name__ == "__main__":
    main()
