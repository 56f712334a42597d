"""Are weights found again when their support is given? Phase diagrams, and students with their teachers."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ...report.recovery import draw_phase, draw_students, phase_sheet, student_sheet
from ...theory import (
    AlternatingLeastSquares,
    FactoredDescent,
    GaussNewton,
    LevenbergMarquardt,
    NuclearNorm,
    SingularValueProjection,
    phase_diagram,
    teacher_student,
)
from ...theory.recovery import PhaseDiagram, Solver
from ...theory.recovery.phase import PhasePoint
from ...theory.teacher_student import TeacherStudent
from .findings import Findings, Tell


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
    """How much `recovery` does. `students` are (depth, examples); their nets are 8-6-…-4."""

    seeds: int
    phases: tuple[Phase, ...]
    students: tuple[tuple[int, int], ...]
    max_steps: int


_SMALL = (1.1, 1.3, 1.5, 2.0, 2.5, 3.0, 4.0)
SCALES = {
    "smoke": Scale(
        5,
        (Phase((8, 10), 1, _SMALL, max_steps=800),),
        ((2, 50), (2, 100), (2, 400), (3, 100), (3, 400)),
        120,
    ),
    "full": Scale(
        10,
        (
            Phase((12, 15), 1, _SMALL),
            Phase((12, 15), 2, _SMALL),
            Phase((50, 60), 1, (1.05, 1.1, 1.2, 1.3, 1.5, 2.0), every=False, max_steps=500),
            Phase((50, 60), 3, (1.1, 1.2, 1.3, 1.5, 2.0), every=False, max_steps=60),
        ),
        tuple((depth, samples) for depth in (2, 3, 4) for samples in (50, 100, 400)),
        200,
    ),
}


def solvers(*, every: bool) -> dict[str, Solver]:
    """The methods that a phase diagram compares: all, or the two of second order."""
    fast: dict[str, Solver] = {
        "gauss-newton": GaussNewton(),
        "levenberg-marquardt": LevenbergMarquardt(),
    }
    if not every:
        return fast
    return fast | {
        "alternating": AlternatingLeastSquares(),
        "descent": FactoredDescent(),
        "descent, batch 16": FactoredDescent(batch=16),
        "projection": SingularValueProjection(),
        "nuclear norm": NuclearNorm(),
    }


def recovery(scale: Scale, seeds: int, tell: Tell = lambda text: None) -> Findings:
    """Phase diagrams and students of a scale, with `seeds` draws of each problem."""
    diagrams = [_diagram(phase, seeds, tell) for phase in scale.phases]
    students = _students(scale, seeds, tell)
    return Findings(
        "recover",
        [*map(phase_sheet, diagrams), student_sheet(students)],
        [
            "Columns of the first kind of table: measurements per degree of freedom. A recovery is within "
            "a relative error of 1e-6; spectral starts, float64.",
            f"Teachers: {seeds} a line, random, 8 inputs, width 6, 4 outputs; one student each, by "
            f"Levenberg–Marquardt in at most {scale.max_steps} steps. Fits: relative error of at most 1e-6 "
            "on the training examples, whose median stands beside; recovers: the same on 1,000 held-out ones.",
            "All seen: teachers whose examples see every direction of the weights; of the others no method "
            "can find all.",
        ],
        {
            "phase.png": lambda path: draw_phase(
                diagrams,
                path,
                note=f"{seeds} draws a point; curves that coincide are set a hair apart",
            ),
            "students.png": lambda path: draw_students(
                students,
                path,
                note=f"{seeds} teachers a setting, one student each; random networks, 8 inputs, width 6, "
                "4 outputs",
            ),
        },
        {
            "phase": [asdict(d) for d in diagrams],
            "students": [{"teacher": n % seeds, **asdict(s)} for n, s in enumerate(students)],
        },
    )


def _diagram(phase: Phase, seeds: int, tell: Tell) -> PhaseDiagram:
    """One phase diagram, column by column."""
    points: list[PhasePoint] = []
    (p, q), methods = phase.shape, solvers(every=phase.every)
    for factor in phase.oversampling:
        column = phase_diagram(
            phase.shape, phase.rank, (factor,), methods, trials=seeds, max_steps=phase.max_steps
        ).points
        points += column
        tell(
            f"{p} × {q}, rank {phase.rank}, {factor:g} measurements a degree: of {seeds} recovered "
            + ", ".join(f"{point.successes} by {point.solver}" for point in column)
        )
    return PhaseDiagram(phase.shape, phase.rank, tuple(points))


def _students(scale: Scale, seeds: int, tell: Tell) -> list[TeacherStudent]:
    """One student for each teacher, with the support given and unknown."""
    settings: list[TeacherStudent] = []
    for depth, samples in scale.students:
        for support in ("given", "unknown"):
            for seed in range(seeds):
                found = teacher_student(
                    6,
                    depth,
                    samples,
                    support,
                    inputs=8,
                    outputs=4,
                    starts=1,
                    seed=seed,
                    max_steps=scale.max_steps,
                )
                settings.append(found)
                tell(
                    f"depth {depth}, {samples} examples, support {support}, teacher {seed}: "
                    f"error {found.runs[0].train:.0e}"
                )
    return settings
