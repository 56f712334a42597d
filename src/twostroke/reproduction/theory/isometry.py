"""Does any operator satisfy eq. 29? Gaussian ones, those of random networks, those of real digits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import torch
from torch import nn

from ...report.isometry import draw_spectra, rip_sheet
from ...support import record
from ...theory import (
    LinearOperator,
    gaussian_operator,
    lifted_operator,
    path_operator,
    plain_network,
    rip,
)
from ...theory.rip import RipReport
from .digits import Digits
from .findings import Findings, Tell

MEASUREMENTS = (80, 800, 8000, 80000)
TEACHERS = ((4, 3, 2), (8, 6, 4))
EXAMPLES = 600
HIDDEN, IMAGES = 6, 2000  # of digits of 7×7


def isometry(seeds: int, tell: Tell = lambda text: None) -> Findings:
    """The spectrum and the restricted isometry constants of each operator, in `seeds` draws."""
    digits = Digits(4)
    found: dict[str, list[RipReport]] = {}
    errors: list[float] = []
    for seed in range(seeds):
        for name, operator in _operators(seed, digits, errors):
            # blocks of 1 × p have no rank but one, and their search would be long
            whole = operator.blocks is not None and operator.blocks[2] == 1
            report = rip(operator, ranks=() if whole else (1, 2), starts=8, seed=seed)
            found.setdefault(name, []).append(report)
            tell(f"draw {seed + 1} of {seeds}: {name}: {report.reason}")
    note = (
        "Each spectrum is scaled to mean 1, since a multiple is free; to the left zeros lie below; "
        f"{seeds} draws of each operator"
    )
    return Findings(
        "rip",
        [rip_sheet(found)],
        [
            "λ²/m from the lowest to the highest over all draws; eq. 29 wants all of it within 0.9 to 1.1.",
            "δ over rank one and two, the largest draw, up to the best multiple of the operator; from below.",
            "Gaussian: 10 × 8 matrices. Teachers: random, inputs-width-outputs, "
            f"{EXAMPLES} Gaussian examples. Null space counts the zero columns too.",
            f"Digits: MNIST averaged to 7×7, {HIDDEN} hidden units, {IMAGES:,} images; the path operator of "
            "one logit, which the other nine repeat. "
            f"Test error after training: {', '.join(f'{100 * e:.1f}' for e in errors)} %.",
        ],
        {"spectra.png": lambda path: draw_spectra(found, path, note=note)},
        {
            "operators": {
                name: [
                    asdict(r) | {"spectrum": r.spectrum.tolist(), "sharp": r.sharp} for r in reports
                ]
                for name, reports in found.items()
            },
            "digits_test_error": errors,
        },
    )


def _operators(
    seed: int, digits: Digits, errors: list[float]
) -> Iterator[tuple[str, LinearOperator]]:
    """Names and operators of one draw; appends the digits' test error to `errors`."""
    for m in MEASUREMENTS:
        yield f"Gaussian, m = {m}", gaussian_operator(m, 10, 8, seed=seed)
    for inputs, width, outputs in TEACHERS:
        teacher = plain_network(width, 2, inputs=inputs, outputs=outputs, seed=seed)
        draw = torch.Generator().manual_seed(seed + 1_000_000)
        x = torch.randn(EXAMPLES, inputs, generator=draw, dtype=torch.float64)
        support = record(teacher, x)
        name = f"teacher {inputs}-{width}-{outputs}"
        if (inputs, width, outputs) == TEACHERS[0]:  # the next has 1,152 columns, 960 of them zero
            yield f"{name}, lifted", lifted_operator(teacher, support, x)
        yield f"{name}, paths", path_operator(teacher, support, x)
    network = nn.Sequential(
        nn.Flatten(), *plain_network(HIDDEN, 2, inputs=49, outputs=10, seed=seed)
    )
    yield "digits, random", _first_logit(network, digits)
    errors.append(digits.train(network, seed, steps=800))
    yield "digits, trained", _first_logit(network, digits)


def _first_logit(network: nn.Sequential, digits: Digits) -> LinearOperator:
    """The path operator of the first logit, whose weights do not matter to it."""
    x = digits.x[:IMAGES]
    head = nn.Linear(HIDDEN, 1, bias=False).double()
    return path_operator(nn.Sequential(*network[:3], head), record(network, x), x)
