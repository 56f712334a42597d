"""Trackers: TensorBoard's files are read back; others are asked for by name."""

import pytest

import twostroke as ts
from tests.listening import told
from tests.toy import toy_data, toy_net, toy_record
from twostroke.errors import SettingsError
from twostroke.report import Tracked

accelerate = pytest.importorskip("accelerate", reason="the extra `track`")


@pytest.fixture(autouse=True)
def _state_as_before():
    yield
    accelerate.PartialState._reset_state()


def read_back(folder):
    """Steps and values of each quantity in TensorBoard's files."""
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra `track`"
    )
    events = reader.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_the_history(tmp_path):
    pytest.importorskip("tensorboard", reason="the tracker that is tried")
    heard = []
    listener = told(epoch=heard.append, note=heard.append)
    alternation = ts.InstanceWise(warmup=1, gap=1)
    with Tracked("tensorboard", tmp_path, listener=listener, settings={"lr": "0.05"}) as tracked:
        assert not list(tmp_path.iterdir())
        history = ts.fit(
            toy_net(),
            toy_data(),
            alternation=alternation,
            epochs=3,
            batch_size=40,
            listener=tracked,
        ).history
    assert heard[1:] == history.epochs  # after a note on where masks are kept
    found = read_back(tmp_path)
    for name in ("error", "loss_train", "loss_live", "held_steps", "density"):
        assert [value for _, value in found[name]] == pytest.approx(history.column(name)), name
        assert [step for step, _ in found[name]] == [4, 8, 12]
    assert [step for step, _ in found["loss_held"]] == [8, 12]  # where it was measured
    assert found["drift_by_site/2#0"][-1][1] == pytest.approx(history[-1].drift_by_site["2#0"])
    assert any("lr: '0.05'" in file.read_text() for file in tmp_path.rglob("hparams.yml"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_parts_stand_before_the_quantities(tmp_path):
    pytest.importorskip("tensorboard", reason="the tracker that is tried")
    with Tracked(["tensorboard"], tmp_path) as tracked:
        tracked.part("sparse")
        tracked.step(None)
        tracked.epoch(toy_record(steps=7, error=2.5))
    assert read_back(tmp_path)["sparse/error"] == [(7, 2.5)]


@pytest.mark.parametrize(
    ("name", "message"), [("tensorbord", "did you mean 'tensorboard'"), ("aim", "pip install aim")]
)
def test_a_tracker_that_is_not_there_is_refused_at_once(tmp_path, monkeypatch, name, message):
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    with pytest.raises(SettingsError, match=message):
        Tracked(name, tmp_path)


def test_a_tracker_that_fails_is_told_no_more(tmp_path, monkeypatch):
    class Away:
        requires_logging_directory = False
        calls = 0

        def __init__(self, project):
            assert project == "twostroke"

        def start(self):
            if self.calls:
                raise OSError("no network")

        def log(self, values, step):
            Away.calls += 1
            raise OSError("no network")

    monkeypatch.setattr("accelerate.tracking._available_trackers", ["away"])
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "away", Away)
    notes, epochs = [], []
    with Tracked(
        "away", tmp_path, listener=told(note=notes.append, epoch=epochs.append)
    ) as tracked:
        tracked.step(None)
        tracked.epoch(toy_record())
        tracked.epoch(toy_record())
    assert notes == ["away failed, and is told no more: no network"]
    assert (len(epochs), Away.calls) == (2, 1)
    with (
        Tracked("away", tmp_path) as again,
        pytest.raises(SettingsError, match="could not begin: no network"),
    ):
        again.step(None)
