"""What the benchmarks share: options, paired timing, means with their spread, and the file of figures."""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import twostroke as ts
from twostroke.runs import versions

Clock = Callable[[Callable[[], object]], float]
Figures = dict[str, dict[str, float]]


def parser_of(text: str) -> argparse.ArgumentParser:
    """A parser with `--out`; `text` is the script's docstring."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="keep the figures in this JSON file")
    return parser


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--device`, by default the GPU where there is one."""
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cuda", "cpu"], default=default)


def write(file: Path | None, options: argparse.Namespace, **figures: Any) -> None:
    """Keep figures with versions, machine and options; nothing without a file."""
    if file is None:
        return
    kept = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items() if k != "out"}
    made = versions()
    # folders are of one machine alone
    made["command"] = re.sub(r"(?<![\w.])/(?:[^/\s]+/)+", "", made["command"])
    document = {"versions": made, "options": kept, **figures}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n")


def kept_cell(file: Path, make: Callable[[], dict]) -> dict:
    """What `make` returned, now or in an earlier run that wrote this file."""
    if not file.exists():
        print(f"  {file.parent.name}: {file.stem} ...", end="", flush=True)
        begun = time.perf_counter()
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(make()))
        partial.replace(file)
        print(f" {time.perf_counter() - begun:.0f} s", flush=True)
    return json.loads(file.read_text())


def first_examples(data: ts.data.Data, train: int, test: int | None = None) -> ts.data.Data:
    """The first so many images of both sets, or the whole test set."""
    kept = data.test if test is None else data.test.subset(torch.arange(test))
    note = f"the first {train:,} training images of {data.note}"
    return ts.data.Data(data.name, data.train.subset(torch.arange(train)), kept, data.classes, note)


def mean_sd(values: Sequence[float], digits: int = 2) -> str:
    """Mean (standard deviation), the latter from two values on."""
    spread = f" ({statistics.stdev(values):.{digits}f})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], object]) -> float:
    synchronise()
    start = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - start


def cpu_seconds_of(work: Callable[[], object]) -> float:
    """Processor time of all threads, which other work on the machine moves less."""
    start = time.process_time()
    work()
    return time.process_time() - start


def paired(
    variants: dict[str, Callable[[], object]], turns: int, clock: Clock = seconds_of
) -> Figures:
    """Median milliseconds of each variant, and the quartiles of its ratio to the first, turn by turn."""
    for work in variants.values():
        work()
        work()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(turns):
        for name in variants if turn % 2 else reversed(variants):
            seconds[name].append(clock(variants[name]))
    base = seconds[next(iter(variants))]
    result = {}
    for name, values in seconds.items():
        ratios = [v / b for v, b in zip(values, base, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        result[name] = {
            "median_ms": 1e3 * statistics.median(values),
            "ratio": middle,
            "ratio_q1": low,
            "ratio_q3": high,
            "turns": turns,
        }
    return result


def show(title: str, result: Figures) -> None:
    print(f"\n{title}")
    for name, r in result.items():
        print(
            f"  {name:<34} {r['median_ms']:9.2f} ms   {r['ratio']:.3f} × "
            f"({r['ratio_q1']:.3f} to {r['ratio_q3']:.3f}, {r['turns']} turns)"
        )


def memory_mb(key: str) -> float:
    """A line of this process's status, such as "VmRSS", in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def forget_peak() -> float:
    """Start the peak "VmHWM" again; the memory that is in use now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory_mb("VmRSS")
