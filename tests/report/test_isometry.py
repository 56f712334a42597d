import matplotlib.image
import pytest
import torch

from twostroke.report.isometry import deltas_of, draw_spectra, nowhere, rip_sheet
from twostroke.theory import DenseOperator, gaussian_operator, rip


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
