"""Teacher and student: are weights found again when the support is given, and when it is not?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..errors import SettingsError
from ..outcome import Result, Status
from ..support import Support, hold, record
from .chain import Chain, chain, weight_vectors
from .deep import jacobian, oriented, recover_weights
from .lifting import unvec
from .recovery import ADVISES

Given = Literal["given", "unknown"]


def plain_network(
    width: int,
    depth: int,
    *,
    inputs: int = 10,
    outputs: int = 5,
    seed: int = 0,
) -> nn.Sequential:
    """Bias-free ReLU network of `depth` weight layers in float64, weights N(0, 2 / fan-in).

    Fully connected, (batch, inputs) → (batch, outputs), hidden layers of `width` units.
    """
    if min(width, inputs, outputs) < 1 or depth < 2:
        raise SettingsError(
            f"a network needs width, inputs and outputs of at least 1 and depth of at least 2, not "
            f"{width}, {inputs}, {outputs} and {depth}"
        )
    layers: list[nn.Module] = []
    for fan_in in (inputs, *[width] * (depth - 2)):
        layers += [nn.Linear(fan_in, width, bias=False), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(width, outputs, bias=False)).double()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0, (2 / weight[0].numel()) ** 0.5, generator=draw)
    return network


@dataclass(frozen=True, kw_only=True)
class StudentRun(Result):
    """One start. Errors are ‖student - teacher‖ / ‖teacher‖ over all outputs.

    train: under the support that was trained with (the teacher's, or the student's own).
    test_given: on held-out inputs, under the teacher's support there.
    test_own: on held-out inputs, under the student's own (`oriented`, if the support was given).
    reached: whether `train` met the tolerance.
    recovered: whether `test_given` did; with the support unknown, `test_own`.
    """

    ADVISES: ClassVar[Mapping[Status, str]] = ADVISES

    train: float
    test_given: float
    test_own: float
    reached: bool
    recovered: bool
    steps: int


@dataclass(frozen=True)
class TeacherStudent:
    """Runs from several starts of one setting.

    `unseen` counts directions at the teacher's weights that its training examples do not see under
    its support, beyond the one scale of each hidden channel: weights between two units that are
    never on together have such directions, and no method can find them.
    """

    width: int
    depth: int
    samples: int
    support: Given
    unseen: int
    runs: tuple[StudentRun, ...]


def teacher_student(
    width: int,
    depth: int,
    samples: int,
    support: Given = "given",
    *,
    starts: int = 10,
    inputs: int = 10,
    outputs: int = 5,
    rtol: float = 1e-6,
    max_steps: int = 300,
    seed: int = 0,
) -> TeacherStudent:
    """Train students from random starts on a teacher's outputs, full batch, in float64.

    The teacher is `plain_network` with `seed`, its inputs are standard normal. With
    `support="given"` the student is held on the teacher's support (problem P1, eq. 22, for any
    depth); with "unknown" it is a ReLU network. Student k starts from `plain_network` with a seed
    of its own, and is fitted by Levenberg–Marquardt (`recover_weights`). A run ends when the relative
    error is a tenth of `rtol`, when it falls no more, or after `max_steps`.

    Raises `SettingsError` for settings out of range.
    """
    if support not in ("given", "unknown"):
        raise SettingsError(f"support is 'given' or 'unknown', not {support!r}")
    if samples < 1 or starts < 1:
        raise SettingsError(f"there must be samples and starts, not {samples} and {starts}")

    def network(seed: int) -> nn.Sequential:
        return plain_network(width, depth, inputs=inputs, outputs=outputs, seed=seed)

    teacher = network(seed)
    draw = torch.Generator().manual_seed(seed + 1_000_000)
    x, x_test = (
        torch.randn(n, inputs, generator=draw, dtype=torch.float64) for n in (samples, 1000)
    )
    given, given_test = record(teacher, x), record(teacher, x_test)
    with torch.no_grad():
        y, y_test = teacher(x), teacher(x_test)
    held = support == "given"
    read = chain(teacher, given, x)
    runs = []
    for k in range(starts):
        student = network(1000 * (seed + 1) + k)
        found = recover_weights(
            read, y, weight_vectors(student), held=held, max_steps=max_steps, rtol=rtol / 10
        )
        _write(student, found.weights)
        train = _error(student, given if held else None, x, y)
        test_given = _error(student, given_test, x_test, y_test)
        if held:  # a held network knows no signs; ReLU does
            _write(student, oriented(read, found.weights))
        test_own = _error(student, None, x_test, y_test)
        runs.append(
            StudentRun(
                status=found.status,
                detail=found.detail,
                train=train,
                test_given=test_given,
                test_own=test_own,
                reached=train <= rtol,
                recovered=(test_given if held else test_own) <= rtol,
                steps=found.steps,
            )
        )
    unseen = _unseen(read, weight_vectors(teacher))
    return TeacherStudent(width, depth, samples, support, unseen, tuple(runs))


def _error(model: nn.Module, support: Support | None, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        with hold(model, support) if support is not None else nullcontext():
            gap = model(x) - y
        return float(gap.norm() / y.norm().clamp_min(1e-300))


def _unseen(network: Chain, weights: Sequence[Tensor]) -> int:
    s = torch.linalg.svdvals(jacobian(network, weights))
    rank = int((s > 1e-10 * s[0]).sum())
    scales = sum(link.channels for link in network.links[:-1])
    return sum(network.sizes) - scales - rank


def _write(model: nn.Sequential, vectors: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for weight, vector in zip(model.parameters(), vectors, strict=True):
            weight.copy_(unvec(vector, weight.shape))
