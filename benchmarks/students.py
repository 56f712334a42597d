"""How large files of students are, and what few bits cost: python benchmarks/students.py --out FILE.json.

Bytes of the file of each student of a network, and bytes of its quantised layers as parts of float32; then
forward and backward pass with weights of 1, 2 and 4 bits against the plain ones, paired.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from common import paired, parser_of, show, write
from twostroke.guidance.students import Student, narrow, prune, quantise
from twostroke.models import create_model
from twostroke.runs import read_tensors


def sizes(name: str) -> dict[str, float]:
    """Bytes of the files, and how many times smaller the layers of few bits are."""
    recipe = Student(model=name, classes=10, in_channels=3)
    model = recipe.build()
    students: dict[str, nn.Module] = {
        "float32": model,
        "width 0.5": narrow(model, 0.5, torch.randn(1, 3, 64, 64)),
        "pruned 0.9": prune(model, 0.9)[0],
        **{f"{bits} bits": quantise(model, bits) for bits in (4, 2, 1)},
    }
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for what, student in students.items():
            path = Path(folder) / "student"
            recipe.save(path, student)
            found[what] = path.stat().st_size
            tensors, _ = read_tensors(path)
            packed = {n: t.nbytes for n, t in tensors.items() if n.endswith((".codes", ".scale"))}
            if packed:
                layers = {n.rpartition(".")[0] for n in packed}
                full = sum(model.state_dict()[n].nbytes for n in layers)
                found[f"{what}, layers smaller by"] = full / sum(packed.values())
    return found


def cost(name: str, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Forward and backward pass, plain and with weights of few bits."""
    model = create_model(name, classes=10)
    x, y = torch.randn(options.batch, 3, 32, 32), torch.randint(0, 10, (options.batch,))
    students = {"plain": model, **{f"{bits} bits": quantise(model, bits) for bits in (1, 2, 4)}}

    def step(student: nn.Module) -> None:
        F.cross_entropy(student(x), y).backward()

    return paired({k: lambda s=s: step(s) for k, s in students.items()}, options.turns)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--batch", type=int, default=100)
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    files, steps = {}, {}
    for name in ("allcnn-mini", "allcnn-c", "torchvision/resnet18", "torchvision/mobilenet_v2"):
        files[name] = sizes(name)
        print(name, {k: round(v, 1) for k, v in files[name].items()})
    for name in ("allcnn-mini", "torchvision/resnet18"):
        steps[name] = cost(name, options)
        show(f"forward and backward pass, {name}, batch {options.batch}", steps[name])
    write(options.out, options, files=files, steps=steps)


if __name__ == "__main__":
    main()
