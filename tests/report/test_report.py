import matplotlib.image
import pytest
from rich.console import Console

import twostroke as ts
from tests.toy import toy_data, toy_net, toy_record
from twostroke.report import comparison, draw_curves, draw_training, to_targets
from twostroke.report.table import to_target
from twostroke.runs import History


def history(errors, **changes):
    told = {"seconds": 2.0} | changes
    return History(
        toy_record(epoch=i + 1, error=e, steps=50 * (i + 1), round=i, **told)
        for i, e in enumerate(errors)
    )


def test_epochs_steps_and_seconds_to_a_target():
    run = history([9.0, 4.0, 5.0, 3.0])
    assert to_target(run, 4.0) == (2, 100, 4.0)
    assert to_target(run, 3.5) == (4, 200, 8.0)
    assert to_target(run, 1.0) is None


def test_table_has_a_line_a_run(capsys):
    table = comparison(
        {"sgd": history([9.0, 4.25]), "none": History()},
        mask_errors={"sgd": 12.5},
    )
    Console(width=200).print(table)
    out = capsys.readouterr().out
    line = next(row for row in out.splitlines() if "sgd" in row)
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "sgd",
        "2",
        "4.25",
        "12.50",
        "0.5000",
        "0.5000",
        "4.0",
    ]
    assert any("none" in row and "–" in row for row in out.splitlines())


def test_a_line_a_target_and_run_fits_a_narrow_terminal(capsys):
    runs = {"sgd": history([9.0, 4.25]), "a name of 24 characters": history([9.0, 8.0])}
    Console(width=80).print(to_targets(runs, (9.5, 5.0, 0.5)))
    rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith("│")]
    assert [row.replace("│", "").split() for row in rows[:3:2]] == [
        ["sgd", "9.5", "1", "50", "2.0"],
        ["sgd", "5", "2", "100", "4.0"],
    ]
    assert len(rows) == 6
    assert "–" in rows[3]


@pytest.mark.parametrize("held", [0.4, None])
def test_curves_are_drawn_whatever_is_missing(tmp_path, held):
    runs = {"a": history([9.0, 4.0], loss_held=held), "b": history([0.0, 0.0]), "c": History()}
    draw_curves(runs, tmp_path / "c.png", title="t", note="n")
    picture = matplotlib.image.imread(tmp_path / "c.png")
    assert picture.shape[0] > 300
    assert picture[..., :3].std() > 0.01


def test_training_curves_show_held_and_live(tmp_path):
    history = ts.fit(
        toy_net(), toy_data(), alternation=ts.InstanceWise(warmup=1, gap=1), epochs=3, batch_size=40
    ).history
    assert [r.error_held is None for r in history] == [True, False, False]
    assert all(0 <= r.error_live <= 100 for r in history)
    file = tmp_path / "curves.png"
    draw_training({"instance": history}, file, title="t", note="n")
    assert file.read_bytes()[:4] == b"\x89PNG"
