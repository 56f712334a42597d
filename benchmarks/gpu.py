"""Masks on a GPU, checked and then measured: python benchmarks/gpu.py --out FILE.json.

One command for a machine with CUDA. First it compares the kernels with their references, and the held
network with the live one; where anything differs it says what, measures nothing and ends with 1. Then it
measures, in bfloat16 and channels-last unless you say otherwise: steps and recordings, eager and compiled,
peak memory, bandwidth of the kernels, Muon's share of a step, and steps whose masks come from a store.
Without CUDA it ends with 2.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import torch

import store
import twostroke as ts
from common import Clock, paired, parser_of, seconds_of, show, write
from compile import measure_all
from speed import add_muon, low_precision, muon_speed, problem, record_speed, step_speed
from twostroke.models import create_model
from twostroke.support import bits, gpu

FLAT, LAST = torch.contiguous_format, torch.channels_last
DTYPES = (torch.bfloat16, torch.half, torch.float32, torch.float64)
SHAPES = (
    *((3, 13), (2, 64), (4, 1000), (5, 3, 7, 7), (2, 96, 32, 32), (2, 64, 14, 14), (2, 5, 8, 4)),
    *((2, 192, 1, 1), (2, 3, 4, 4, 4), (3, 16, 3, 5, 7), (2000, 8), (1, 130, 9, 16)),
)


def clock(device: str, repeats: int) -> Clock:
    """Seconds of one run on the device itself, from `repeats` in a row."""
    if device == "cpu":
        return seconds_of

    def seconds(work: Callable[[], object]) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(repeats):
            work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / repeats

    return seconds


# -- checks --------------------------------------------------------------------------------------


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """The same numbers, undefined ones and the signs of zeros included."""
    a, b = a.cpu(), b.cpu()
    return (
        a.shape == b.shape
        and torch.equal(a.isnan(), b.isnan())
        and torch.equal(a.nan_to_num(0.0), b.nan_to_num(0.0))
        and torch.equal(a.signbit() & ~a.isnan(), b.signbit() & ~b.isnan())
    )


def drawn(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> torch.Tensor:
    """Numbers among which infinite, undefined, tiny and signed zero ones lie."""
    special = [torch.inf, -torch.inf, torch.nan, 0.0, -0.0, 1e-40, -1e-40]
    q = torch.randn(shape, dtype=torch.float64)
    which = torch.randint(0, 20, shape)
    for k, value in enumerate(special):
        q[which == k] = value
    return q.to(dtype).to(device)


def kernel_errors(device: str) -> Iterator[str]:
    for shape in SHAPES:
        last = {4: LAST, 5: torch.channels_last_3d}.get(len(shape))
        for dtype in DTYPES:
            for form in (FLAT, last) if last else (FLAT,):
                what = f"{shape} {dtype} {form}"
                q = drawn(shape, dtype, device).contiguous(memory_format=form)
                if device != "cpu" and not gpu.serves(q):
                    yield f"the kernels do not take {what}: is Triton installed?"
                for closed in (False, True):
                    on = ~(q < 0) if closed else ~(q <= 0)
                    if not torch.equal(bits.pack_relu(q, closed=closed).cpu(), bits.pack(on.cpu())):
                        yield f"pack, {what}, closed={closed}"
                for rows in {1, shape[0]}:
                    mask = torch.rand(rows, *shape[1:], device=device) < 0.5
                    packed = bits.pack(mask)
                    for slope in (0.0, 0.2):
                        expected = bits.reference_select(q, mask, slope)
                        z = bits.select(q, packed, slope=slope)
                        if not (same(z, expected) and z.is_contiguous(memory_format=form)):
                            yield f"select, {what}, {rows} rows, slope {slope}"
                        p = q.clone(memory_format=torch.preserve_format)
                        if not same(bits.select(p, packed, slope=slope, out=p), expected):
                            yield f"select in place, {what}, {rows} rows, slope {slope}"


def large_errors(device: str) -> Iterator[str]:
    """Beyond 2³¹ units, where there is the memory: `m ∘ q` with ReLU's own mask is ReLU."""
    if device == "cpu" or torch.cuda.mem_get_info()[0] < 12e9:
        print("beyond 2³¹ units: not checked, there is too little memory")
        return
    pattern = torch.randn(2**20, device=device, dtype=torch.bfloat16)
    for form in (FLAT, LAST):
        memory = pattern.repeat(3 * 2**10)
        q = memory.view(3, 64, 4096, 4096)
        if form is LAST:
            q = memory.view(3, 4096, 4096, 64).permute(0, 3, 1, 2)
        bits.select(q, bits.pack_relu(q), out=q)
        if not all(torch.equal(part, pattern.relu()) for part in memory.split(len(pattern))):
            yield f"more than 2³¹ units, {form}"
        del q, memory


def exactness_errors(options: argparse.Namespace) -> Iterator[str]:
    """Holding right after recording: the same output and gradients, bit for bit."""
    torch.backends.cudnn.deterministic = True
    for name in options.models:
        for dtype in (torch.float32, torch.bfloat16):
            for form in (FLAT, LAST):
                torch.manual_seed(0)
                model = create_model(name, classes=10).eval().to(options.device, memory_format=form)
                x = torch.randn(min(options.batch, 64), 3, 32, 32, device=options.device)
                x = x.contiguous(memory_format=form)

                def run(model=model, x=x, dtype=dtype):
                    with torch.autocast(options.device, dtype, enabled=dtype != torch.float32):
                        output = model(x)
                    wanted = list(model.parameters())
                    return [
                        output.detach(),
                        *torch.autograd.grad(output.float().square().sum(), wanted),
                    ]

                live, again = run(), run()
                with torch.autocast(options.device, dtype, enabled=dtype != torch.float32):
                    support = ts.record(model, x)
                with ts.hold(model, support):
                    held = run()
                parts = list(zip(live, again, held, strict=True))
                what = f"{name}, {dtype}, {form}"
                if not torch.equal(parts[0][0], parts[0][2]):
                    yield f"output of the held network, {what}"
                # a gradient that the plain network does not repeat either says nothing
                wrong = [
                    i for i, (a, b, c) in enumerate(parts) if torch.equal(a, b) and not same(a, c)
                ]
                if wrong:
                    yield f"{len(wrong)} of {len(parts)} gradients of the held network, {what}"
                unsure = sum(not torch.equal(a, b) for a, b, _ in parts)
                print(f"held right after recording, {what}: {len(parts) - unsure} tensors compared")
    torch.backends.cudnn.deterministic = False


# -- figures -------------------------------------------------------------------------------------


def memory(options: argparse.Namespace) -> dict:
    """Peak of allocated device memory (MB) of a step, above what stood before it."""
    results: dict[str, dict[str, float]] = {}
    for name in options.models if options.device != "cpu" else []:
        model, x, step = problem(name, options.batch, options)
        with low_precision(options):
            support = ts.record(model, x)
        results[name] = {}
        for kind in ("plain", "held"):
            for _ in range(2):  # the first step makes the optimiser's buffers
                torch.cuda.synchronize()
                before = torch.cuda.memory_allocated()
                torch.cuda.reset_peak_memory_stats()
                step(ts.hold(model, support) if kind == "held" else None)
                torch.cuda.synchronize()
            results[name][kind] = (torch.cuda.max_memory_allocated() - before) / 1e6
        results[name]["masks"] = support.nbytes / 1e6
        print(f"\npeak memory above start (MB), {name}, batch {options.batch}: {results[name]}")
    return results


def bandwidth(options: argparse.Namespace) -> dict:
    """Gigabytes a second that are read and written, as many as the operation cannot do without."""
    results = {}
    size = (options.batch, 96, 32, 32)
    for dtype in (torch.bfloat16, torch.float32):
        for form in (FLAT, LAST):
            q = torch.randn(size, device=options.device, dtype=dtype).contiguous(memory_format=form)
            packed, z, values = bits.pack_relu(q), torch.empty_like(q), q.nbytes
            moved = {
                "torch.relu": 2 * values,
                "select": 2 * values + packed.nbytes,
                "pack": values + packed.nbytes,
            }
            variants = {
                "torch.relu": lambda q=q: torch.relu(q),
                "select": lambda q=q, p=packed, z=z: bits.select(q, p, out=z),
                "pack": lambda q=q: bits.pack_relu(q),
            }
            layout = "channels last" if form is LAST else "contiguous"
            title = f"{str(dtype).removeprefix('torch.')}, {layout}"
            result = paired(variants, options.turns, clock(options.device, 10 * options.steps))
            for name, figures in result.items():
                figures["gb_per_second"] = moved[name] / figures["median_ms"] / 1e6
            results[title] = result
            show(f"{q.numel() / 1e6:.1f} million units, {title}", result)
            rates = {name: round(figures["gb_per_second"]) for name, figures in result.items()}
            print(f"  GB/s: {rates}")
    return results


PARTS = {  # on the device's own clock, but what reads from stores
    "step": lambda options: step_speed(options, clock(options.device, options.steps)),
    "compile": lambda options: measure_all(options, clock(options.device, options.steps)),
    "record": lambda options: record_speed(options, clock(options.device, options.steps)),
    "memory": memory,
    "bits": bandwidth,
    "muon": lambda options: muon_speed(options, clock(options.device, options.steps)),
    "store": store.step_speed,
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("part", choices=["all", "check", *PARTS], nargs="*", default="all")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--steps", type=int, default=5, help="runs in a row that a turn times")
    parser.add_argument("--batch", type=int, default=256)
    add_muon(parser)
    parser.add_argument("--models", nargs="+", default=["allcnn-c", "resnet18"])
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--channels-last", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument(
        "--device", default="cuda", choices=["cuda", "cpu"], help="cpu: only to try the script"
    )
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("there is no CUDA device here: run this on a machine that has one", file=sys.stderr)
        raise SystemExit(2)
    torch.manual_seed(0)
    errors = [*kernel_errors(options.device), *large_errors(options.device)]
    errors += exactness_errors(options)
    for error in errors:
        print(f"WRONG: {error}")
    print(f"checks: {len(errors)} errors")
    chosen = PARTS if "all" in options.part else [p for p in options.part if p != "check"]
    results = {part: PARTS[part](options) for part in chosen} if not errors else {}
    triton = version("triton") if gpu._compiled() else None
    write(options.out, options, triton=triton, errors=errors, results=results)
    raise SystemExit(1 if errors else 0)


if __name__ == "__main__":
    main()
