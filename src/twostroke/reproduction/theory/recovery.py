"""Are weights found again when their support is given? From masks alone; and students with their teachers."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ...report.half_spaces import draw_half_spaces, half_space_sheet
from ...report.recovery import draw_students, student_sheet
from ...theory import teacher_student
from ...theory.teacher_student import TeacherStudent
from .findings import Findings, Tell
from .rebuilding import rebuilding


@dataclass(frozen=True)
class Scale:
    """How much `recovery` does.

    widths, images, teachers: networks that are rebuilt from their masks, and on how many images.
    seeds: teachers of each kind of student, unless told otherwise.
    students: (depth, examples); their nets are 8-6-…-4, and take max_steps steps at most.
    """

    widths: tuple[int, ...]
    images: tuple[int, ...]
    teachers: int
    seeds: int
    students: tuple[tuple[int, int], ...]
    max_steps: int


SCALES = {
    "smoke": Scale(
        (4, 8, 16),
        (1, 4, 16, 64, 256),
        2,
        5,
        ((2, 50), (2, 100), (2, 400), (3, 100), (3, 400)),
        120,
    ),
    "full": Scale(
        (4, 8, 16),
        (1, 4, 16, 64, 256, 1024),
        3,
        10,
        tuple((depth, samples) for depth in (2, 3, 4) for samples in (50, 100, 400)),
        200,
    ),
}


def recovery(scale: Scale, seeds: int, tell: Tell = lambda text: None) -> Findings:
    """Networks rebuilt from their masks, and students of a scale with `seeds` teachers a setting."""
    rebuilt = rebuilding(scale.widths, scale.images, scale.teachers, tell)
    students = _students(scale, seeds, tell)
    return Findings(
        "recover",
        [half_space_sheet(rebuilt), student_sheet(students)],
        [
            "Rebuilt: three convolutions and a linear layer, trained on MNIST averaged to 14×14; the hidden "
            "layers from their masks alone, the last from the outputs, by ridge regression. Means over "
            f"{scale.teachers} teachers and over the units that are neither off nor on everywhere.",
            "Bits a weight: images × places / fan-in, for each hidden layer. Noise: white, with the mean and "
            "deviation of the digits. Test errors on 2,000 digits.",
            f"Students: {seeds} teachers a line, random, 8 inputs, width 6, 4 outputs; one student each, by "
            f"Levenberg–Marquardt in at most {scale.max_steps} steps. Fits: relative error of at most 1e-6 "
            "on the training examples, whose median stands beside; recovers: the same on 1,000 held-out ones.",
            "All seen: teachers whose examples see every direction of the weights; of the others no method "
            "can find all.",
        ],
        {
            "half_spaces.png": lambda path: draw_half_spaces(
                rebuilt,
                path,
                note="full: each layer on what the recovered layers give; dashed: on the teacher's own inputs; "
                "×: by guided descent; dotted: the teacher; "
                f"means over {scale.teachers} teachers",
            ),
            "students.png": lambda path: draw_students(
                students,
                path,
                note=f"{seeds} teachers a setting, one student each; random networks, 8 inputs, width 6, "
                "4 outputs",
            ),
        },
        {
            "rebuilt": [asdict(point) for point in rebuilt],
            "students": [{"teacher": n % seeds, **asdict(s)} for n, s in enumerate(students)],
        },
    )


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
