import math
from dataclasses import replace

import matplotlib.image
import pytest

from twostroke.report.half_spaces import RebuiltPoint, draw_half_spaces, half_space_sheet


def points():
    return [
        RebuiltPoint(
            data, 4, seed, images, inputs, "converged",
            per_weight=[20.0 * images, 2.5 * images],
            angles=[10.0 / images, (40.0 if inputs == "recovered" else 20.0) / images],
            cosines=[0.98, 0.5 if inputs == "recovered" else 0.7],
            undetermined=[0, 1],
            error=(1.2 if inputs == "descent" else 0.8) / images + 0.1 * seed,
            teacher_error=0.05,
        )
        for data in ("digits", "noise")
        for seed in (0, 1)
        for images, inputs in (
            *((n, by) for n in (1, 4) for by in ("recovered", "teacher")), (4, "descent"),
        )
    ]  # fmt: skip


def test_lines_are_means_over_teachers():
    sheet = half_space_sheet(points())
    assert len(sheet.rows) == 4
    assert sheet.rows[0][7] == "–"  # by descent the largest number of images alone
    assert sheet.rows[1] == (
        "digits", "4", "4", "80, 10", "0.9800, 0.5000", "0.9800, 0.7000", "25.0", "35.0", "5.0",
    )  # fmt: skip


@pytest.mark.parametrize("kinds", [("digits",), ("digits", "noise")])
def test_the_picture_has_a_panel_a_layer_and_one_for_the_error(tmp_path, kinds):
    draw_half_spaces([p for p in points() if p.data in kinds], tmp_path / "a.png", note="n")
    picture = matplotlib.image.imread(tmp_path / "a.png")[..., :3]
    assert picture[..., :3].std() > 0.05
    assert (picture[..., 2] - picture[..., 0] > 0.3).any()  # the lines of the first width


def test_a_layer_without_determined_units_is_left_out(tmp_path):
    dead = [replace(p, angles=[math.nan] * 2, cosines=[math.nan] * 2) for p in points()]
    assert half_space_sheet(dead).rows[0][4] == "–, –"
    draw_half_spaces(dead, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0
