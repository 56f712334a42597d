import matplotlib.image

from twostroke.report.recovery import draw_students, student_sheet
from twostroke.theory import teacher_student


def test_student_lines_tell_given_from_unknown(tmp_path):
    settings = [
        teacher_student(2, 2, 30, support, inputs=3, outputs=2, starts=3, max_steps=steps)
        for support, steps in (("given", 60), ("unknown", 1))
    ]
    (row,) = student_sheet(settings).rows
    assert row[:5] == ("depth 2", "30", "1 of 1", "3", "3")
    assert row[6:8] == ("0", "0")
    draw_students(settings, tmp_path / "a.png", note="n")
    picture = matplotlib.image.imread(tmp_path / "a.png")[..., :3]
    assert (picture[..., 2] - picture[..., 0] > 0.3).mean() > 0.05  # the bar of those that succeed
