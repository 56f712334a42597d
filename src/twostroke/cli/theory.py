"""`twostroke rip` and `twostroke recover`: §3.3 of the paper, put to the test."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..errors import RunFolderError, SettingsError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..report.sheet import Sheet
    from ..theory import LinearOperator, Solver

MEASUREMENTS = (80, 800, 8000, 80000)
TEACHERS = ((4, 3, 2), (8, 6, 4))
EXAMPLES = 600
DIGITS = 2000
HIDDEN = 6


@dataclass(frozen=True)
class Phase:
    """One phase diagram: matrices of `shape` and `rank`, and whether slow solvers take part."""

    shape: tuple[int, int]
    rank: int
    oversampling: tuple[float, ...]
    every: bool = True
    max_steps: int = 1500


@dataclass(frozen=True)
class Scale:
    """How much `recover` does. `students` are (depth, examples); their nets are 8-6-…-4."""

    seeds: int
    phases: tuple[Phase, ...]
    students: tuple[tuple[int, int], ...]
    max_steps: int


SMALL = (1.1, 1.3, 1.5, 2.0, 2.5, 3.0, 4.0)
SCALES = {
    "smoke": Scale(
        5,
        (Phase((8, 10), 1, SMALL, max_steps=800),),
        ((2, 50), (2, 100), (2, 400), (3, 100), (3, 400)),
        120,
    ),
    "full": Scale(
        10,
        (
            Phase((12, 15), 1, SMALL),
            Phase((12, 15), 2, SMALL),
            Phase((50, 60), 1, (1.05, 1.1, 1.2, 1.3, 1.5, 2.0), every=False, max_steps=500),
            Phase((50, 60), 3, (1.1, 1.2, 1.3, 1.5, 2.0), every=False, max_steps=60),
        ),
        tuple((depth, samples) for depth in (2, 3, 4) for samples in (50, 100, 400)),
        200,
    ),
}


def rip(*, out: Path, seeds: int = 3) -> None:
    """Test the condition of the paper's Theorem 1, eq. 29, on operators made and real.

    Gaussian operators; networks with random weights and Gaussian inputs, whose support is known;
    and a small network on real digits of 7×7 pixels, before and after training. Half a minute.

    Args:
        out: Folder for rip.md, rip.json and spectra.png; must not hold anything yet.
        seeds: Draws of each operator.
    """
    with _work(out, seeds) as console:
        from ..report.theory import draw_spectra, rip_sheet
        from ..theory import RipReport
        from ..theory import rip as test

        began = time.perf_counter()
        digits = Digits()
        found: dict[str, list[RipReport]] = {}
        errors: dict[int, float] = {}
        total = seeds * (len(MEASUREMENTS) + len(TEACHERS) + 3)
        with Steps(console, "rip", total) as steps:
            for seed in range(seeds):
                for name, operator in _operators(seed, digits, errors):
                    # blocks of 1 × p have no rank but one, and their search would be long
                    whole = operator.blocks is not None and operator.blocks[2] == 1
                    ranks = () if whole else (1, 2)
                    report = test(operator, ranks=ranks, starts=8, seed=seed)
                    found.setdefault(name, []).append(report)
                    steps.done(f"draw {seed + 1}: {name}: {report.reason}")
        sheet = rip_sheet(found)
        notes = [
            "λ²/m from the lowest to the highest over all draws; eq. 29 wants all of it within 0.9 to 1.1.",
            "δ over rank one and two, the largest draw, up to the best multiple of the operator; from below.",
            "Gaussian: 10 × 8 matrices. Teachers: random, inputs-width-outputs, "
            f"{EXAMPLES} Gaussian examples. Null space counts the zero columns too.",
            f"Digits: MNIST averaged to 7×7, {HIDDEN} hidden units, {DIGITS:,} images; the path operator of "
            "one logit, which the other nine repeat. "
            f"Test error after training: {', '.join(f'{100 * e:.1f}' for e in errors.values())} %.",
        ]
        picture = "Each spectrum is scaled to mean 1, since a multiple is free; to the left zeros lie below"
        draw_spectra(found, out / "spectra.png", note=f"{picture}; {seeds} draws of each operator")
        results = {
            name: [{**asdict(r), "spectrum": r.spectrum.tolist(), "sharp": r.sharp} for r in reports]
            for name, reports in found.items()
        }  # fmt: skip
        about = {
            "command": f"twostroke rip --seeds {seeds}",
            "seconds": time.perf_counter() - began,
        }
        results_digits = {"digits_test_error": list(errors.values())}
        _finish(
            console, out, "rip", [sheet], notes, ["spectra.png"], about,
            {"operators": results, **results_digits},
        )  # fmt: skip


def recover(
    *, out: Path, scale: Literal["smoke", "full"] = "smoke", seeds: int | None = None
) -> None:
    """Recover weights whose support is given: how many measurements it takes, and if it helps.

    A phase diagram (recoveries of low-rank matrices from Gaussian measurements, by solver), and
    students that are fitted to teachers with the teacher's support given and unknown.

    Args:
        out: Folder for recover.md, recover.json, phase.png and students.png; must not hold
            anything yet.
        scale: smoke takes a minute or two, full about half an hour.
        seeds: Draws of each problem, and teachers of each kind (one student each); by default 5 for
            smoke and 10 for full.
    """
    plan = SCALES[scale]
    seeds = plan.seeds if seeds is None else seeds
    with _work(out, seeds) as console:
        from ..report.theory import draw_phase, draw_students, phase_sheet, student_sheet
        from ..theory import PhaseDiagram, TeacherStudent, phase_diagram, teacher_student

        began = time.perf_counter()
        diagrams: list[PhaseDiagram] = []
        settings: list[TeacherStudent] = []
        total = sum(len(p.oversampling) * len(solvers(p)) for p in plan.phases)
        total += 2 * seeds * len(plan.students)
        with Steps(console, "recover", total) as steps:
            for phase in plan.phases:
                diagram = PhaseDiagram(phase.shape, phase.rank, ())
                for name, solver in solvers(phase).items():
                    for factor in phase.oversampling:
                        part = phase_diagram(
                            phase.shape, phase.rank, (factor,), {name: solver}, trials=seeds,
                            max_steps=phase.max_steps,
                        )  # fmt: skip
                        diagram = replace(diagram, points=(*diagram.points, *part.points))
                        p = part.points[0]
                        steps.done(
                            f"{phase.shape[0]} × {phase.shape[1]}, rank {phase.rank}, {name}, "
                            f"{factor:g} measurements a degree: {p.successes} of {p.trials}"
                        )
                diagrams.append(diagram)
            for depth, samples in plan.students:
                for support in ("given", "unknown"):
                    for seed in range(seeds):
                        found = teacher_student(
                            6, depth, samples, support, inputs=8, outputs=4, starts=1,
                            seed=seed, max_steps=plan.max_steps,
                        )  # fmt: skip
                        settings.append(found)
                        steps.done(
                            f"depth {depth}, {samples} examples, support {support}, teacher {seed}: "
                            f"error {found.runs[0].train:.0e}"
                        )
        sheets = [*map(phase_sheet, diagrams), student_sheet(settings)]
        notes = [
            "Columns of the first kind of table: measurements per degree of freedom. A recovery is within "
            "a relative error of 1e-6; spectral starts, float64.",
            f"Teachers: {seeds} a line, random, 8 inputs, width 6, 4 outputs; one student each, by "
            f"Levenberg–Marquardt in at most {plan.max_steps} steps. Fits: relative error of at most 1e-6 on "
            "the training examples, whose median stands beside; recovers: the same on 1,000 held-out ones.",
            "All seen: teachers whose examples see every direction of the weights; of the others no method "
            "can find all.",
        ]
        draw_phase(
            diagrams, out / "phase.png",
            note=f"{seeds} draws a point; curves that coincide are set a hair apart",
        )  # fmt: skip
        draw_students(
            settings, out / "students.png",
            note=f"{seeds} teachers a setting, one student each; random networks, 8 inputs, width 6, 4 outputs",
        )  # fmt: skip
        about = {
            "command": f"twostroke recover --scale {scale} --seeds {seeds}",
            "seconds": time.perf_counter() - began,
        }
        results = {
            "phase": [asdict(d) for d in diagrams],
            "students": [{"teacher": n % seeds, **asdict(s)} for n, s in enumerate(settings)],
        }
        _finish(
            console, out, "recover", sheets, notes, ["phase.png", "students.png"], about, results
        )


def solvers(phase: Phase) -> dict[str, Solver]:
    """The methods that a phase diagram compares."""
    from .. import theory as t

    fast: dict[str, Solver] = {
        "gauss-newton": t.GaussNewton(),
        "levenberg-marquardt": t.LevenbergMarquardt(),
    }
    if not phase.every:
        return fast
    return fast | {
        "alternating": t.AlternatingLeastSquares(),
        "descent": t.FactoredDescent(),
        "descent, batch 16": t.FactoredDescent(batch=16),
        "projection": t.SingularValueProjection(),
        "nuclear norm": t.NuclearNorm(),
    }


class Digits:
    """Real digits of 7×7 pixels, flattened, in float64; and a small network for them."""

    def __init__(self) -> None:
        import torch

        from ..data import load

        data = load("mnist-12k")
        (self.x, self.y), (self.x_test, self.y_test) = (
            (torch.nn.functional.avg_pool2d(x, 4).flatten(1).double(), y)
            for x, y in (part.batch(torch.arange(len(part))) for part in (data.train, data.test))
        )

    def network(self, seed: int) -> nn.Sequential:
        """49-6-10 without biases, random."""
        from ..theory import plain_network

        return plain_network(HIDDEN, 2, inputs=self.x.shape[1], outputs=10, seed=seed)

    def train(self, network: nn.Sequential, seed: int, *, steps: int = 800) -> float:
        """Train by Adam; returns the test error."""
        import torch

        optimizer = torch.optim.Adam(network.parameters(), 0.005)
        draw = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            some = torch.randint(len(self.x), (200,), generator=draw)
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(self.x[some]), self.y[some])
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            wrong = network(self.x_test).argmax(1) != self.y_test
        return float(wrong.double().mean())

    def operator(self, network: nn.Sequential) -> LinearOperator:
        """The path operator of the first logit."""
        from torch import nn

        from ..support import record
        from ..theory import path_operator

        x = self.x[:DIGITS]
        support = record(network, x)
        head = nn.Linear(HIDDEN, 1, bias=False).double()
        return path_operator(nn.Sequential(*list(network)[:2], head), support, x)


def _operators(
    seed: int, digits: Digits, errors: dict[int, float]
) -> Iterator[tuple[str, LinearOperator]]:
    """Names and operators of one draw; notes the digits' test error by seed."""
    import torch

    from ..support import record
    from ..theory import gaussian_operator, lifted_operator, path_operator, plain_network

    for m in MEASUREMENTS:
        yield f"Gaussian, m = {m}", gaussian_operator(m, 10, 8, seed=seed)
    for inputs, width, outputs in TEACHERS:
        teacher = plain_network(width, 2, inputs=inputs, outputs=outputs, seed=seed)
        draw = torch.Generator().manual_seed(seed + 1_000_000)
        x: Tensor = torch.randn(EXAMPLES, inputs, generator=draw, dtype=torch.float64)
        support = record(teacher, x)
        name = f"teacher {inputs}-{width}-{outputs}"
        if (inputs, width, outputs) == TEACHERS[0]:  # the next has 1,152 columns, 960 of them zero
            yield f"{name}, lifted", lifted_operator(teacher, support, x)
        yield f"{name}, paths", path_operator(teacher, support, x)
    network = digits.network(seed)
    yield "digits, random", digits.operator(network)
    errors[seed] = digits.train(network, seed)
    yield "digits, trained", digits.operator(network)


class Steps:
    """A progress bar of things done; one plain line each where no terminal is."""

    def __init__(self, console: Console, name: str, total: int) -> None:
        self.console = console
        self._bar = Progress(
            TextColumn("[bold]{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("{task.fields[text]}", markup=False),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task(name, total=total, text="")

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def done(self, text: str) -> None:
        """One more."""
        self._bar.update(self._task, advance=1, text=text)
        if not self.console.is_terminal:
            self.console.print(text, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def _work(out: Path, seeds: int) -> Iterator[Console]:
    """Make the folder before any work; take it away again if nothing came of it."""
    if seeds < 1:
        raise SettingsError(f"--seeds is a number of draws, 1 or more, not {seeds}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunFolderError(f"{out} already holds something: choose another --out or remove it")
    there = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{out} cannot be made: {error}") from error
    try:
        yield Console()
    except OSError as error:
        raise RunFolderError(f"{out} could not be written: {error}") from error
    finally:
        if not there:
            with suppress(OSError):  # what is in it stays
                out.rmdir()


def _finish(
    console: Console,
    out: Path,
    name: str,
    sheets: Sequence[Sheet],
    notes: Sequence[str],
    pictures: Sequence[str],
    about: Mapping[str, Any],
    results: Mapping[str, Any],
) -> None:
    """Print the tables and write them as Markdown, with all figures as JSON beside."""
    from ..runs import versions

    facts = versions() | dict(about) | {"seconds": round(about["seconds"], 1)}
    (out / f"{name}.json").write_text(
        json.dumps({"about": facts, **_plain(results)}, indent=1, allow_nan=False) + "\n"
    )
    text = [f"# twostroke {name}\n", *(s.markdown() for s in sheets), *(f"{n}\n" for n in notes)]
    text += [f"![{Path(p).stem}]({p})\n" for p in pictures]
    text.append(
        f"`{facts['command']}`: {facts['seconds']} s; twostroke {facts['twostroke']}, Python "
        f"{facts['python']}, PyTorch {facts['torch']}, {facts['platform']}, {facts['threads']} threads; "
        f"every figure in {name}.json.\n"
    )
    (out / f"{name}.md").write_text("\n".join(text))
    for sheet in sheets:
        console.print(sheet.table())
    console.print("\n".join(notes), highlight=False)
    console.print(
        f"\nin {out}: {', '.join([f'{name}.md', f'{name}.json', *pictures])}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """Figures as JSON takes them: no number that is none."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
