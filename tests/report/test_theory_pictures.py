import matplotlib.image
import numpy as np
import pytest
import torch

from twostroke.report.saliency import draw_contributions
from twostroke.report.theory import (
    deltas_of,
    draw_phase,
    draw_spectra,
    draw_students,
    nowhere,
    phase_sheet,
    rip_sheet,
    student_sheet,
)
from twostroke.theory import (
    DenseOperator,
    GaussNewton,
    gaussian_operator,
    phase_diagram,
    rip,
    teacher_student,
)


def coloured(path):
    """Share of reddish and of bluish pixels in the left and right half of the contributions' panel."""
    picture = matplotlib.image.imread(path)[..., :3]
    picture = picture[80:-60, picture.shape[1] // 2 : int(0.88 * picture.shape[1])]
    shares = []
    for half in np.array_split(picture, 2, axis=1):
        red, blue = half[..., 0] - half[..., 2] > 0.2, half[..., 2] - half[..., 0] > 0.2
        shares += [red.mean(), blue.mean()]
    return shares


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_red_adds_and_blue_takes_away(tmp_path, channels):
    parts = torch.zeros(channels, 8, 8)
    parts[0, :, :3] = 2.0
    parts[-1, :, 5:] = -2.0
    draw_contributions(torch.rand(channels, 8, 8), parts, tmp_path / "a.png", title="t", note="n")
    left_red, left_blue, right_red, right_blue = coloured(tmp_path / "a.png")
    assert left_red > 0.4
    assert right_blue > 0.4
    assert left_blue < 0.05
    assert right_red < 0.05


def test_one_large_pixel_does_not_bleach_the_rest(tmp_path):
    parts = torch.ones(1, 40, 40)
    parts[0, 0, 0] = 1000.0
    draw_contributions(torch.zeros(1, 40, 40), parts, tmp_path / "a.png")
    assert coloured(tmp_path / "a.png")[2] > 0.5


def test_a_picture_of_nothing_is_drawn(tmp_path):
    draw_contributions(torch.zeros(1, 4, 9), torch.zeros(1, 4, 9), tmp_path / "a.png")
    assert max(coloured(tmp_path / "a.png")) == 0


def test_rip_lines_are_over_all_draws(tmp_path):
    holed = DenseOperator(
        torch.eye(6, dtype=torch.float64)[:, [0, 1, 2, 3, 4, 4]] * 6**0.5, blocks=(1, 3, 2)
    )
    found = {
        "gaussian": [rip(gaussian_operator(m, 3, 2), starts=2) for m in (20, 200_000)],
        "holed": [rip(holed, starts=2)],
    }
    sheet = rip_sheet(found)
    assert [row[-1] for row in sheet.rows] == ["1 of 2", "0 of 1"]
    assert nowhere(found["holed"][0]) == 1
    assert sheet.rows[1][2:4] == ("0", "1")
    low, high = (float(v) for v in sheet.rows[0][4].split("–"))
    assert low < 0.9 < 1.1 < high
    lines = sheet.markdown().splitlines()
    assert {line.count("|") for line in lines[2:]} == {len(sheet.heads) + 1}
    draw_spectra(found, tmp_path / "a.png", note="n")
    assert matplotlib.image.imread(tmp_path / "a.png")[..., :3].std() > 0.05


def test_of_single_columns_the_spectrum_tells_the_constants():
    operator = gaussian_operator(40, 5, 1)
    searched, told = rip(operator, starts=4), rip(operator, ranks=())
    assert deltas_of(told) == pytest.approx(deltas_of(searched), rel=1e-6)
    assert deltas_of(rip(gaussian_operator(40, 3, 2), ranks=())) == ()


def test_phase_lines_count_successes(tmp_path):
    diagram = phase_diagram((5, 6), 1, (0.5, 3.0), {"gn": GaussNewton()}, trials=2, max_steps=40)
    (row,) = phase_sheet(diagram).rows
    assert row[:2] == ("gn", "0")
    assert row[2].startswith("2 (")
    draw_phase([diagram] * 3, tmp_path / "a.png", note="n")
    assert matplotlib.image.imread(tmp_path / "a.png")[..., :3].std() > 0.05


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
