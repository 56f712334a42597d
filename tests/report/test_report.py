import matplotlib.image
import pytest
from rich.console import Console

import twostroke as ts
from tests.toy import toy_data, toy_net, toy_record
from twostroke.report import comparison, differing, draw_curves, draw_training, to_targets
from twostroke.report.curves import compared, curves, of_run
from twostroke.report.table import to_target
from twostroke.runs import History


def history(errors, round_=None, **changes):
    told = {"seconds": 2.0} | changes
    return History(
        toy_record(
            epoch=i + 1, error=e, steps=50 * (i + 1), round=i if round_ is None else round_, **told
        )
        for i, e in enumerate(errors)
    )


def test_epochs_steps_and_seconds_to_a_target():
    run = history([9.0, 4.0, 5.0, 3.0])
    assert to_target(run, 4.0) == (2, 100, 4.0)
    assert to_target(run, 3.5) == (4, 200, 8.0)
    assert to_target(run, 1.0) is None


def test_table_has_a_line_a_run():
    table = comparison(
        {"sgd": history([9.0, 4.0, 4.25], held_steps=10), "none": History()},
        mask_errors={"sgd": 12.5},
    )
    assert [head.replace("\n", " ") for head in table.heads] == [
        *("run", "epochs", "error last %", "error best %", "MaskT %"),
        *("loss test", "loss train", "loss held", "held steps %", "seconds"),
    ]
    sgd, none = table.rows
    assert sgd == ("sgd", "3", "4.25", "4.00", "12.50", "0.5000", "0.5000", "0.5000", "20", "6.0")
    assert none == ("none", "0", *["–"] * 8)
    plain = comparison({"sgd": history([9.0], round_=0)})
    assert plain.heads[-2:] == ("loss\ntrain", "seconds")  # nothing was held


def test_a_line_a_target_and_run_fits_a_narrow_terminal(capsys):
    runs = {"sgd": history([9.0, 4.25]), "a name of 24 characters": history([9.0, 8.0])}
    table = to_targets(runs, (9.5, 5.0, 0.5))
    assert table.rows[:3:2] == (("sgd", "9.5", "1", "50", "2.0"), ("sgd", "5", "2", "100", "4.0"))
    assert table.rows[3][2:] == ("–",) * 3
    Console(width=80).print(table.table(), comparison(runs, mask_errors={}).table())
    rows = capsys.readouterr().out.splitlines()
    assert sum(row.lstrip().startswith("a name of 24 characters") for row in rows) == 4


def test_settings_that_differ():
    one = {"command": "train", "out": "a", "seed": 0, "instance": {"gap": 2, "drift": 0.1}}
    two = {
        "command": "train",
        "out": "b",
        "seed": 1,
        "instance": {"gap": 3, "drift": 0.1},
        "prune": 0.5,
    }
    assert differing({"a": one, "b": two}).rows == (
        ("seed", "0", "1"),
        ("instance.gap", "2", "3"),
        ("prune", "–", "0.5"),
    )


@pytest.mark.parametrize("held", [0.4, None])
def test_curves_are_drawn_whatever_is_missing(tmp_path, held):
    runs = {"a": history([9.0, 4.0], loss_held=held), "$b": history([0.0, 0.0]), "c$": History()}
    draw_curves(runs, tmp_path / "c.png", title="$t", note="n$")
    picture = matplotlib.image.imread(tmp_path / "c.png")
    assert picture.shape[0] > 300
    assert picture[..., :3].std() > 0.01


def test_a_log_axis_says_so_and_strokes_are_explained():
    figure = curves(of_run(history([9.0, 4.0])))
    assert [axes.get_ylabel() for axes in figure.axes] == [
        *("loss, log scale", "error (%), log scale", "share of the units (%)"),
    ]
    assert "support stroke" in figure.get_supxlabel()
    with_zero = compared({"a": history([9.0, 3.0, 0.0])})[1:]
    axes = curves(with_zero, strokes=False).axes[0]
    assert axes.get_ylabel() == "error on test examples, live (%), log scale above 3"
    assert axes.get_ylim()[0] == 0  # 0 is in sight
    plain = curves(
        of_run(history([0.0, 0.0], round_=0, error_live=0.0, error_held=None, error_average=None))
    )
    assert [axes.get_ylabel() for axes in plain.axes] == ["loss, log scale", "error (%)"]
    assert plain.get_supxlabel() == ""


def test_training_curves_show_held_and_live(tmp_path):
    history = ts.fit(
        toy_net(), toy_data(), alternation=ts.InstanceWise(warmup=1, gap=1), epochs=3, batch_size=40
    ).history
    assert [r.error_held is None for r in history] == [True, False, False]
    assert all(0 <= r.error_live <= 100 for r in history)
    file = tmp_path / "curves.png"
    draw_training({"instance": history}, file, title="t", note="n")
    assert file.read_bytes()[:4] == b"\x89PNG"
