"""What stores cost, paired and interleaved: python benchmarks/store.py all --out FILE.json.

step: a weight-stroke step whose masks come from a store, against a plain ReLU step and one whose masks are
at hand already. Each turn is some steps in a row, before which the file store is told what comes; the page
cache is warm. rows: random rows out of each store, a second. size: writing and reading a store of more and
more examples, and the memory that it takes, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import twostroke as ts
from common import add_device, forget_peak, memory_mb, paired, parser_of, show, write
from speed import problem
from twostroke.models import create_model
from twostroke.store import FileStore, MemoryStore


def filled(store, support: ts.Support):
    """A store with the rows of a support, over and over."""
    store.begin(1, 0)
    for indices in torch.arange(len(store)).split(len(support)):
        store.write(indices, support[: len(indices)])
    store.publish()
    return store


def step_speed(options: argparse.Namespace) -> dict:
    results = {}
    for name in options.models:
        model, x, step = problem(name, options.batch, options)
        support = ts.record(model, x)
        examples = options.batch * 20
        device = torch.device(options.device)
        host = MemoryStore(support.sites, examples, "cpu", pin=device.type == "cuda")
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            file = filled(FileStore(support.sites, examples, Path(folder)), support)
            filled(host, support)

            def batches(examples=examples):
                return torch.randint(0, examples, (options.steps, options.batch)).unbind()

            def at_hand(step=step, model=model, support=support) -> None:
                for _ in range(options.steps):
                    step(ts.hold(model, support))

            def from_store(store, tell=True, step=step, model=model, batches=batches) -> None:
                coming = batches()
                if tell:
                    store.expect(coming)
                for indices in coming:
                    step(ts.hold(model, store.read(indices, options.device)))

            variants = {
                "plain ReLU step": lambda step=step: [step() for _ in range(options.steps)],
                "held step, masks at hand": at_hand,
                "from host memory": lambda s=host, f=from_store: f(s),
                "from a file, announced": lambda s=file, f=from_store: f(s),
                "from a file, unannounced": lambda s=file, f=from_store: f(s, tell=False),
            }
            results[name] = paired(variants, options.turns)
            title = f"{options.steps} training steps, {name}, batch {options.batch}"
            show(f"{title}, {support.nbytes / len(support) / 1e3:.1f} kB an example", results[name])
            base = results[name]["held step, masks at hand"]["ratio"]
            for variant in list(variants)[2:]:
                results[name][variant]["added"] = results[name][variant]["ratio"] / base - 1
                added = 100 * results[name][variant]["added"]
                print(f"  {variant:<28} {added:+.1f} % on top of a step with masks at hand")
            file.close()
    return results


def row_speed(options: argparse.Namespace) -> dict:
    results = {}
    for name in options.models:
        support = ts.record(create_model(name, classes=10), torch.randn(16, 3, 32, 32))
        row = support.nbytes // len(support)
        examples = int(options.gigabytes * 1e9 / row)
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            file = filled(FileStore(support.sites, examples, Path(folder)), support)
            host = filled(MemoryStore(support.sites, examples), support)
            rates: dict[str, list[float]] = {}
            for _ in range(max(3, options.turns // 3)):
                for kind, store in (("file", file), ("host memory", host)):
                    order = torch.randperm(examples).split(128)
                    start = time.perf_counter()
                    for indices in order:
                        store.read(indices, "cpu")
                    seconds = time.perf_counter() - start
                    rates.setdefault(kind, []).append(examples * row / seconds / 1e9)
            file.close()
        results[name] = {
            kind: {"gb_per_second": statistics.median(r), "lowest": min(r), "highest": max(r)}
            for kind, r in rates.items()
        }
        print(
            f"\nrandom rows of {row / 1e3:.1f} kB, {examples:,} of them, every one verified (file)"
        )
        for kind, r in results[name].items():
            print(
                f"  {kind:<14} {r['gb_per_second']:6.2f} GB/s ({r['lowest']:.2f} to {r['highest']:.2f})"
            )
    return results


def size_cost(options: argparse.Namespace) -> dict:
    results: dict[str, list[dict[str, float]]] = {}
    for kind in ("file", "host"):
        results[kind] = []
        print(f"\n{kind}: cost against size, {options.models[0]}")
        for examples in options.sizes:
            command = [sys.executable, __file__, "one-size", "--models", options.models[0]]
            command += ["--sizes", str(examples), "--kind", kind, "--folder", str(options.folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            one = json.loads(done.stdout)
            results[kind].append(one)
            print(
                f"  {examples:>8,} examples  write {one['write_us']:7.1f} µs  read "
                f"{one['read_us']:7.1f} µs an example  memory +{one['memory_mb']:8.1f} MB  "
                f"beside rows {one['header_bytes']:,} bytes"
            )
    return results


def one_size(options: argparse.Namespace) -> None:
    """One size in this process; prints JSON."""
    torch.set_num_threads(1)
    examples = options.sizes[0]
    support = ts.record(create_model(options.models[0], classes=10), torch.randn(100, 3, 32, 32))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        warm = filled(FileStore(support.sites, 200, Path(folder) / "warm"), support)
        warm.read(torch.arange(128), "cpu")
        warm.close()
        before = forget_peak()
        start = time.perf_counter()
        if options.kind == "file":
            store = FileStore(support.sites, examples, Path(folder))
        else:
            store = MemoryStore(support.sites, examples)
        filled(store, support)
        written = time.perf_counter()
        order = torch.randperm(examples).split(128)
        store.expect(order)
        for indices in order:
            store.read(indices, "cpu")
        read = time.perf_counter()
        sizes = [p.stat().st_size for p in Path(folder).glob("*.store")]
        result = {
            "examples": examples,
            "write_us": 1e6 * (written - start) / examples,
            "read_us": 1e6 * (read - written) / examples,
            "memory_mb": memory_mb("VmHWM") - before,
            "header_bytes": sum(sizes) - store.nbytes if sizes else 0,
        }
        store.close()
    print(json.dumps(result))


PARTS = {"step": step_speed, "rows": row_speed, "size": size_cost}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("part", choices=["all", "one-size", *PARTS], nargs="+")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--steps", type=int, default=4, help="steps a turn")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--models", nargs="+", default=["allcnn-c", "resnet18"])
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the store for rows")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--kind", default="file", help=argparse.SUPPRESS)
    add_device(parser)
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    if "one-size" in options.part:
        one_size(options)
        return
    chosen = list(PARTS) if "all" in options.part else options.part
    write(options.out, options, results={part: PARTS[part](options) for part in chosen})


if __name__ == "__main__":
    main()
