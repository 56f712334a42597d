"""Teacher and student: are weights found again when the support is given, and when it is not?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import SettingsError
from ..support import Support, hold, record
from .chain import Chain, chain, weight_vectors
from .deep import jacobian, oriented, recover_weights
from .lifting import unvec

Given = Literal["given", "unknown"]
Method = Literal["lm", "lbfgs"]


def plain_network(
    width: int,
    depth: int,
    *,
    inputs: int = 10,
    outputs: int = 5,
    conv: bool = False,
    image: int = 6,
    seed: int = 0,
) -> nn.Sequential:
    """Bias-free ReLU network of `depth` weight layers in float64, weights N(0, 2 / fan-in).

    Fully connected, (batch, inputs) → (batch, outputs), hidden layers of `width` units; or, with
    `conv`, 3×3 convolutions of `width` channels on images of (inputs, image, image), then a fully
    connected layer. `chain` reads either.
    """
    if min(width, inputs, outputs) < 1 or depth < 2:
        raise SettingsError(
            f"a network needs width, inputs and outputs of at least 1 and depth of at least 2, not "
            f"{width}, {inputs}, {outputs} and {depth}"
        )
    layers: list[nn.Module] = []
    channels = inputs
    for _ in range(depth - 1):
        layer = (
            nn.Conv2d(channels, width, 3, padding=1, bias=False)
            if conv
            else nn.Linear(channels, width, bias=False)
        )
        layers += [layer, nn.ReLU()]
        channels = width
    if conv:
        layers.append(nn.Flatten())
        channels *= image * image
    network = nn.Sequential(*layers, nn.Linear(channels, outputs, bias=False)).double()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0, (2 / weight[0].numel()) ** 0.5, generator=draw)
    return network


@dataclass(frozen=True)
class StudentRun:
    """One start. Errors are ‖student - teacher‖ / ‖teacher‖ over all outputs.

    `train` is under the support that was trained with (the teacher's, or the student's own). On
    held-out inputs, `test_given` is under the teacher's support there, `test_own` under the
    student's own (`oriented`, if the support was given). `reached` says whether `train` met the
    tolerance, `recovered` whether `test_given` did (with the support unknown, `test_own`).
    """

    seed: int
    train: float
    test_given: float
    test_own: float
    reached: bool
    recovered: bool
    steps: int
    seconds: float


@dataclass(frozen=True)
class TeacherStudent:
    """Runs from several starts of one setting. `weights` and `equations` count unknowns and data.

    `unseen` counts directions at the teacher's weights that its training examples do not see under
    its support, beyond the one scale of each hidden channel: weights between two units that are
    never on together have such directions, and no method can find them.
    """

    width: int
    depth: int
    samples: int
    support: Given
    conv: bool
    solver: Method
    weights: int
    equations: int
    unseen: int
    runs: tuple[StudentRun, ...]

    @property
    def share_reached(self) -> float:
        """Share of starts that fit the training set to the tolerance."""
        return sum(run.reached for run in self.runs) / len(self.runs)

    @property
    def share_recovered(self) -> float:
        """Share of starts that are the teacher's function on held-out inputs as well."""
        return sum(run.recovered for run in self.runs) / len(self.runs)

    def row(self) -> dict[str, Any]:
        """The setting with shares and medians, for a table."""
        row = {key: value for key, value in asdict(self).items() if key != "runs"}
        return row | {
            "starts": len(self.runs),
            "share_reached": self.share_reached,
            "share_recovered": self.share_recovered,
            **{
                f"median_{name}": statistics.median(getattr(run, name) for run in self.runs)
                for name in ("train", "test_given", "test_own", "steps", "seconds")
            },
        }


def teacher_student(
    width: int,
    depth: int,
    samples: int,
    support: Given = "given",
    *,
    conv: bool = False,
    starts: int = 10,
    inputs: int = 10,
    outputs: int = 5,
    image: int = 6,
    student_width: int | None = None,
    solver: Method = "lm",
    rtol: float = 1e-6,
    max_steps: int | None = None,
    seed: int = 0,
) -> TeacherStudent:
    """Train students from random starts on a teacher's outputs, full batch, in float64.

    The teacher is `plain_network` with `seed`, its inputs are standard normal. With
    `support="given"` the student is held on the teacher's support (problem P1, eq. 22, for any
    depth); with "unknown" it is a ReLU network. Student k starts from `plain_network` with a seed
    of its own. With the support given, a student must have the teacher's width. `solver` is
    "lm", Levenberg–Marquardt (`recover_weights`), or "lbfgs" with strong Wolfe line search. A run
    ends when the relative error is a tenth of `rtol`, when it falls no more, or after `max_steps`:
    steps of the first (default 300), evaluations of loss and gradient of the second (4000).
    """
    if support not in ("given", "unknown"):
        raise SettingsError(f"support is 'given' or 'unknown', not {support!r}")
    if support == "given" and student_width not in (None, width):
        raise SettingsError("a given support fits students of the teacher's width only")
    if solver not in ("lm", "lbfgs"):
        raise SettingsError(f"solver is 'lm' or 'lbfgs', not {solver!r}")
    if samples < 1 or starts < 1:
        raise SettingsError(f"there must be samples and starts, not {samples} and {starts}")

    def network(width: int, seed: int) -> nn.Sequential:
        return plain_network(
            width, depth, inputs=inputs, outputs=outputs, conv=conv, image=image, seed=seed
        )

    teacher = network(width, seed)
    draw = torch.Generator().manual_seed(seed + 1_000_000)
    shape = (inputs, image, image) if conv else (inputs,)
    x, x_test = (
        torch.randn(n, *shape, generator=draw, dtype=torch.float64) for n in (samples, 1000)
    )
    given, given_test = record(teacher, x), record(teacher, x_test)
    with torch.no_grad():
        y, y_test = teacher(x), teacher(x_test)
    unseen = _unseen(chain(teacher, given, x), weight_vectors(teacher))
    runs = []
    for k in range(starts):
        began = time.perf_counter()
        student = network(student_width or width, 1000 * (seed + 1) + k)
        used = given if support == "given" else None
        if solver == "lm":
            steps = _solve(student, used, x, y, rtol / 10, max_steps or 300)
        else:
            steps = _descend(student, used, x, y, rtol / 10, max_steps or 4000)
        train = _error(student, used, x, y)
        same = student_width in (None, width)
        held = _error(student, given_test, x_test, y_test) if same else float("nan")
        if used is not None:  # a held network knows no signs; ReLU does
            _write(student, oriented(chain(student, given, x), weight_vectors(student)))
        own = _error(student, None, x_test, y_test)
        runs.append(
            StudentRun(
                k, train, held, own, train <= rtol, (held if used is not None else own) <= rtol,
                steps, time.perf_counter() - began,
            )
        )  # fmt: skip
    weights = sum(w.numel() for w in teacher.parameters())
    return TeacherStudent(
        width,
        depth,
        samples,
        support,
        conv,
        solver,
        weights,
        samples * outputs,
        unseen,
        tuple(runs),
    )


def _forward(model: nn.Module, support: Support | None, x: Tensor) -> Tensor:
    with hold(model, support) if support is not None else nullcontext():
        out: Tensor = model(x)
    return out


def _error(model: nn.Module, support: Support | None, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        gap = _forward(model, support, x) - y
        return float(gap.norm() / y.norm().clamp_min(1e-300))


def _solve(
    model: nn.Sequential, support: Support | None, x: Tensor, y: Tensor, rtol: float, limit: int
) -> int:
    """Fit by Levenberg–Marquardt; returns the number of steps."""
    network = chain(model, record(model, x) if support is None else support, x)
    found = recover_weights(
        network, y, weight_vectors(model), held=support is not None, max_steps=limit, rtol=rtol
    )
    _write(model, found.weights)
    return len(found.residuals) - 1


def _unseen(network: Chain, weights: Sequence[Tensor]) -> int:
    s = torch.linalg.svdvals(jacobian(network, weights))
    rank = int((s > 1e-10 * s[0]).sum())
    scales = sum(link.channels for link in network.links[:-1])
    return sum(network.sizes) - scales - rank


def _write(model: nn.Sequential, vectors: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for weight, vector in zip(model.parameters(), vectors, strict=True):
            weight.copy_(unvec(vector, weight.shape))


def _descend(
    model: nn.Module, support: Support | None, x: Tensor, y: Tensor, rtol: float, limit: int
) -> int:
    """Fit by L-BFGS with strong Wolfe steps; returns the number of evaluations."""
    scale = y.square().sum().clamp_min(1e-300)
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=50, max_eval=100, history_size=50, tolerance_grad=0,
        tolerance_change=0, line_search_fn="strong_wolfe",
    )  # fmt: skip
    evaluations = 0

    def closure() -> Tensor:
        nonlocal evaluations
        evaluations += 1
        optimizer.zero_grad()
        loss: Tensor = (model(x) - y).square().sum() / scale
        loss.backward()
        return loss

    with hold(model, support) if support is not None else nullcontext():
        before = float("inf")
        while evaluations < limit:
            optimizer.step(closure)
            with torch.no_grad():
                loss = float((model(x) - y).square().sum() / scale)
            # squared errors fall by less than a millionth in fifty steps: it stands
            if loss <= rtol**2 or not loss < before * (1 - 1e-6):
                break
            before = loss
    return evaluations
