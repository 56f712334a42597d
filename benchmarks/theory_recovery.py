"""Recovery given the support, measured: restricted isometry, teacher and student.

    python benchmarks/theory_recovery.py rip --out FILE.json

One thread, float64, seeds as in this file.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict

import torch

from common import parser_of, write
from twostroke import record
from twostroke.theory import (
    gaussian_operator,
    lifted_operator,
    path_operator,
    plain_network,
    rip,
    teacher_student,
)


def _report(name, operator, **more):
    found = rip(operator, starts=16)
    low, high = float(found.spectrum[0]), float(found.spectrum[-1])
    return {
        "operator": name, "rows": operator.shape[0], "columns": operator.shape[1],
        "zero_columns": found.zero_columns, "rank": int((found.spectrum > 1e-12 * high).sum()),
        "low": low, "high": high, "epsilon": found.epsilon, "reason": found.reason,
        "sharp": found.sharp, **more,
        "restricted": [
            asdict(r) | {"delta_scaled": r.delta_scaled}
            for r in found.restricted
        ],
    }  # fmt: skip


def rip_of_operators():
    """Gaussian operators, teachers, and a student that was trained without support."""
    rows = [
        _report(f"Gaussian 10 × 8, m = {m}", gaussian_operator(m, 10, 8))
        for m in (80, 160, 800, 8000, 80000)
    ]
    for inputs, width, outputs in ((4, 3, 2), (8, 6, 4)):
        teacher = plain_network(width, 2, inputs=inputs, outputs=outputs)
        draw = torch.Generator().manual_seed(0)
        for n in (60, 600, 6000):
            x = torch.randn(n, inputs, generator=draw, dtype=torch.float64)
            support = record(teacher, x)
            name = f"teacher {inputs}-{width}-{outputs}, {n} examples"
            if inputs == 4:
                rows.append(_report(name + ", lifted", lifted_operator(teacher, support, x)))
            rows.append(_report(name + ", paths", path_operator(teacher, support, x)))
    # trained by plain descent on another teacher's outputs
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(600, 8, generator=draw, dtype=torch.float64)
    y = plain_network(12, 3, inputs=8, outputs=4, seed=5)(x).detach()
    student = plain_network(6, 2, inputs=8, outputs=4, seed=6)
    optimizer = torch.optim.Adam(student.parameters(), 0.01)
    for _ in range(1000):
        optimizer.zero_grad()
        loss = (student(x) - y).square().mean() / y.square().mean()
        loss.backward()
        optimizer.step()
    operator = path_operator(student, record(student, x), x)
    rows.append(_report("trained 8-6-4, 600 examples, paths", operator, loss=loss.item()))
    return rows


def students():
    """Two teachers a setting; five starts. The rows of L-BFGS in the results are of the tag `levers`."""
    rows = []
    for depth in (2, 3, 4):
        for samples in (50, 100, 400):
            for support in ("given", "unknown"):
                for seed in (0, 1):
                    found = teacher_student(
                        6, depth, samples, support, inputs=8, outputs=4, seed=seed, starts=5,
                        max_steps=200,
                    )  # fmt: skip
                    rows.append(_student(found, seed))
    return rows


def _student(found, seed):
    row = {
        "teacher": seed,
        **asdict(found),
        "starts": len(found.runs),
        "share_reached": sum(run.reached for run in found.runs) / len(found.runs),
        "share_recovered": sum(run.recovered for run in found.runs) / len(found.runs),
        **{
            f"median_{name}": statistics.median(getattr(run, name) for run in found.runs)
            for name in ("train", "test_given", "test_own", "steps")
        },
    }
    print({k: v for k, v in row.items() if k != "runs"}, flush=True)
    return row


PARTS = {
    "rip": rip_of_operators,
    "students": students,
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("part", choices=PARTS)
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    began = time.perf_counter()
    rows = PARTS[options.part]()
    seconds = round(time.perf_counter() - began, 1)
    write(options.out, options, seconds=seconds, rows=rows)


if __name__ == "__main__":
    main()
