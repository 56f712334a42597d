"""Supports as something to study: python benchmarks/study.py all --out FILE.json.

distances: Hamming distances and neighbours of digits at all sites of allcnn-mini, one thread, against NumPy on
unpacked bits and faiss on the same packed ones, in processor seconds, with the memory they take. recording: a
whole data set against a plain forward pass. lines: the regions between two inputs against dense samples,
on five nets, and against regioncam, where that takes the net. Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import twostroke as ts
from common import forget_peak, memory_mb, paired, parser_of, show, write
from twostroke.models import create_model


def processor(work: Callable[[], object]) -> float:
    """Seconds of this process: others on the machine do not count."""
    start = time.process_time()
    work()
    return time.process_time() - start


def digits(width: float = 1.0) -> tuple[nn.Module, ts.data.Data]:
    """allcnn-mini after one epoch, and its data."""
    torch.manual_seed(0)
    data = ts.data.load("mnist-12k")
    net = create_model("allcnn-mini", classes=10, in_channels=1, width=width)
    ts.fit(net, data, epochs=1, seed=0)
    return net.eval(), data


def distances(options: argparse.Namespace) -> dict:
    torch.set_num_threads(1)
    net, data = digits()
    support = ts.record(net, data)
    some = support[: options.examples]
    rows = some.rows.numpy()

    def unpacked() -> np.ndarray:
        bits = np.unpackbits(rows, axis=1)
        return np.stack([(one != bits).sum(1, dtype=np.int32) for one in bits])

    def product() -> np.ndarray:
        signs = np.unpackbits(rows, axis=1).astype(np.float32) * 2 - 1
        return ((signs.shape[1] - signs @ signs.T) / 2).astype(np.int32)

    def counted() -> np.ndarray:
        words = some.rows.new_zeros(len(rows), -(-rows.shape[1] // 8) * 8)
        words[:, : rows.shape[1]] = some.rows
        words = words.numpy().view(np.uint64)
        return np.stack([np.bitwise_count(one ^ words).sum(1, dtype=np.int32) for one in words])

    ours = ts.study.hamming(some).numpy()
    assert all((ours == way()).all() for way in (unpacked, product, counted))
    ways = {
        "hamming": lambda: ts.study.hamming(some),
        "NumPy, bytes compared": unpacked,
        "NumPy, float32 product of signs": product,
        "NumPy, bitwise_count of packed words": counted,
    }
    found = {"hamming": paired(ways, options.turns, processor)}
    searches = {"neighbours": lambda: ts.study.neighbours(some, some, k=10)}
    if importlib.util.find_spec("faiss"):
        import faiss

        faiss.omp_set_num_threads(1)
        index = faiss.IndexBinaryFlat(8 * rows.shape[1])
        index.add(rows)
        searches["faiss, exact"] = lambda: index.search(rows, 10)
        far, _ = index.search(rows, 10)
        assert (far == ts.study.neighbours(some, some, k=10).distances.numpy()).all()
    found["neighbours"] = paired(searches, options.turns, processor)
    for name, result in found.items():
        show(f"{name}: {len(some):,} × {len(some):,}, {8 * rows.shape[1]:,} bits", result)
    whole = {}
    for name, work in (
        ("hamming", lambda: ts.study.hamming(support)),
        ("neighbours", lambda: ts.study.neighbours(support, k=10)),
        ("unique", lambda: ts.study.unique(support)),
        ("entropy", lambda: ts.study.entropy(support)),
    ):
        before = forget_peak()
        seconds = processor(work)
        whole[name] = {"seconds": seconds, "memory_mb": memory_mb("VmHWM") - before}
        print(f"  {name}, all {len(support):,}: {seconds:.2f} s, {whole[name]['memory_mb']:.0f} MB")
    return {"bits": 8 * rows.shape[1], "some": found, "all": whole}


def recording(options: argparse.Namespace) -> dict:
    net, data = digits()

    def plain() -> None:
        with torch.no_grad():
            for part in torch.arange(len(data.train)).split(500):
                net(data.train.batch(part)[0])

    ways = {"forward": plain, "record": lambda: ts.record(net, data)}
    found = paired(ways, options.turns, processor)
    show(f"{len(data.train):,} digits, allcnn-mini, {torch.get_num_threads()} threads", found)
    return found


class Residual(nn.Module):
    """Digits to logits, with a skip connection, one ReLU called twice, and ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 3, stride=2), nn.Conv2d(6, 6, 3, padding=1)
        self.relu, self.last = nn.ReLU(), nn.Linear(6 * 13 * 13, 10)

    def forward(self, x: Tensor) -> Tensor:
        z = self.relu(self.first(x))
        return self.last(F.relu6(self.second(z) + z).flatten(1))


def nets() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    perceptron = nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    pooled = nn.Sequential(
        *(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 5), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)),
    )
    leaky = nn.Sequential(
        *(nn.Flatten(), nn.Linear(784, 48), nn.LeakyReLU(), nn.Linear(48, 48), nn.PReLU()),
        nn.Linear(48, 10),
    )
    return {
        "perceptron": perceptron,
        "allcnn-mini, width 0.25": digits(0.25)[0],
        "residual, ReLU6": Residual(),
        "max pooling": pooled,
        "leaky and parametric": leaky,
    }


def lines(options: argparse.Namespace) -> dict:
    torch.set_num_threads(1)
    x = ts.data.load("mnist-12k").test.batch(torch.arange(2))[0].double()
    results = {}
    for name, net in nets().items():
        net = net.double().eval()
        start = time.perf_counter()
        line = ts.study.line(net, *x)
        seconds = time.perf_counter() - start
        known = {row.numpy().tobytes() for row in line.support.rows}
        t = torch.linspace(0, 1, options.samples, dtype=torch.float64).view(-1, 1, 1, 1)
        seen: set[bytes] = set()
        start = time.perf_counter()
        for part in t.split(500):
            rows = ts.record(net, (1 - part) * x[0] + part * x[1], pooling=True).rows
            seen |= {row.numpy().tobytes() for row in rows}
        result = {
            "regions": line.regions,
            "seconds": seconds,
            "seen_by_samples": len(seen),
            "missed": len(seen - known),
            "sampling_seconds": time.perf_counter() - start,
            "narrowest": float(line.t.diff().min()),
        }
        if name == "perceptron" and importlib.util.find_spec("regioncam"):
            result |= regioncam_line(net, x, line)
        results[name] = result
        print(name, result)
    return results


def regioncam_line(net: nn.Module, x: Tensor, line: ts.study.Line) -> dict:
    """The same line by regioncam, which computes in float32 and shows the middle three quarters of it."""
    import regioncam

    a, b = x.flatten(1).float()
    middle, half = (a + b) / 2, (b - a) / 2
    ends = torch.stack([middle - 4 / 3 * half, middle + 4 / 3 * half])
    found = regioncam.Regioncam1D.through_points(ends.numpy())
    low, high = found.inputs[0], found.inputs[1]
    start = time.perf_counter()
    for module in list(net.children())[1:]:
        found.add(module.float())
    seconds = time.perf_counter() - start
    net.double()
    t = (np.sort(found.inputs) - low) / (high - low)
    walls = line.t[1:-1].numpy()
    return {
        "regioncam_regions": len(t) - 1,
        "regioncam_seconds": seconds,
        "farthest_wall": max(float(np.abs(t - wall).min()) for wall in walls),
    }


PARTS = {"distances": distances, "recording": recording, "lines": lines}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("part", choices=["all", *PARTS], nargs="+")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--examples", type=int, default=1000, help="that are compared in turns")
    parser.add_argument("--samples", type=int, default=100_000, help="on each line")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    chosen = list(PARTS) if "all" in options.part else options.part
    write(options.out, options, results={part: PARTS[part](options) for part in chosen})


if __name__ == "__main__":
    main()
