"""What may change where a run goes on: its length, where it computes, and the cause of its divergence."""

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

import twostroke as ts
from tests.listening import told
from tests.toy import toy_data, toy_net
from twostroke.errors import RunFolderError, SettingsError
from twostroke.runs import History, RunFolder

QUICK = {"batch_size": 40, "probe": 20, "lr": 0.1}  # four steps an epoch


def fit(folder=None, **options):
    return ts.fit(toy_net(), toy_data(), folder=folder, **(QUICK | options))


SCHEDULES = {
    "one-cycle": "one-cycle",
    "cosine": "cosine",
    "CosineAnnealingLR": CosineAnnealingLR,
    "OneCycleLR": lambda o, n: OneCycleLR(o, 0.1, total_steps=n + 1),  # moves momentum, too
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_finished_run_is_extended_by_the_schedule_of_the_new_length(name, tmp_path):
    schedule = SCHEDULES[name]
    assert fit(tmp_path, epochs=2, schedule=schedule).ok
    result = fit(tmp_path, epochs=5, schedule=schedule, resume=True)
    long = fit(epochs=5, schedule=schedule)
    assert result.history.column("lr")[2:] == long.history.column("lr")[2:]
    assert result.history.column("note") == ["", "", "epochs 2 → 5", "", ""]
    (note,) = (note for note in result.notes if "epochs" in note)
    assert "is made for 5 epochs, and goes on at a learning rate of" in note
    # another stop changes nothing more
    assert fit(tmp_path, epochs=5, schedule=schedule, resume=True).history.epochs == (
        result.history.epochs
    )


def test_it_goes_on_from_the_weights_and_momentum_that_it_had(tmp_path):
    """At a constant rate a run of two epochs and three more is one of five."""
    long = fit(epochs=5, schedule="constant", optimizer="adamw", ema_decay=0.5)
    fit(tmp_path, epochs=2, schedule="constant", optimizer="adamw", ema_decay=0.5)
    result = fit(
        tmp_path, epochs=5, schedule="constant", optimizer="adamw", ema_decay=0.5, resume=True
    )
    assert result.notes == ["epochs 2 → 5"]
    for p, q in zip(long.model.parameters(), result.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_an_epoch_under_way_goes_on_in_a_longer_run(tmp_path):
    def stop(where):
        if (where.epoch, where.step) == (1, 2):
            raise KeyboardInterrupt

    fit(tmp_path, epochs=2, listener=told(step=stop))
    result = fit(tmp_path, epochs=3, resume=True)
    assert result.history.column("steps") == [4, 8, 12]
    assert result.history.column("note") == ["", "epochs 2 → 3", ""]
    assert result.history.column("lr")[1:] == fit(epochs=3).history.column("lr")[1:]


def test_fewer_epochs_than_were_run_are_refused(tmp_path):
    fit(tmp_path, epochs=2)
    with pytest.raises(SettingsError, match="2 epochs were run already"):
        fit(tmp_path, epochs=1, resume=True)


@pytest.mark.parametrize(
    "change", [{"lr": 0.2}, {"batch_size": 32}, {"schedule": "cosine"}, {"seed": 1}], ids=str
)
def test_other_settings_are_refused_by_name(tmp_path, change):
    fit(tmp_path, epochs=1)
    ((name, value),) = change.items()
    with pytest.raises(RunFolderError, match=f"{name} = .*, not {value!r}"):
        fit(tmp_path, epochs=2, resume=True, **change)


def test_a_run_that_reached_its_target_stays_ended(tmp_path):
    first = fit(tmp_path, epochs=3, target_error=99.0)
    assert first.status == "target"
    longer = fit(tmp_path, epochs=30, target_error=99.0, resume=True)
    assert longer.status == "target"
    assert longer.history.epochs == first.history.epochs
    assert fit(tmp_path, epochs=3, target_error=None, resume=True).status == "finished"


class Explodes(ts.training.Objective):
    """Where the learning rate is high, the loss is undefined from the third epoch on."""

    def __init__(self, lr):
        super().__init__(torch.nn.functional.cross_entropy)
        self.lr = lr

    def __call__(self, net, batch):
        loss = super().__call__(net, batch)
        return loss * float("nan") if batch.progress >= 0.5 and self.lr > 0.05 else loss


def test_a_diverged_run_goes_on_from_its_last_good_epoch_with_a_lower_rate(tmp_path):
    def run(lr, **options):
        return fit(tmp_path, lr=lr, objective=Explodes(lr), epochs=4, **options)

    first = run(0.1)
    assert (first.status, len(first.history)) == ("diverged", 2)
    again = run(0.1, resume=True)  # as before
    assert again.status == "diverged"
    assert any("diverged here before" in note for note in again.notes)
    result = run(0.02, resume=True)
    assert result.ok
    assert result.history.epochs[:2] == first.history.epochs
    assert result.history.column("note") == ["", "", "lr 0.1 → 0.02", ""]
    assert result.history.column("lr")[2:] == fit(lr=0.02, epochs=4).history.column("lr")[2:]
    with pytest.raises(RunFolderError, match="this one has not"):  # any more
        run(0.01, resume=True)
    RunFolder(tmp_path).save_history(result.history)
    loaded = History.load(tmp_path / "metrics.csv")
    for name in ("note", "lr", "loss_live", "steps"):
        assert loaded.column(name) == result.history.column(name)


def test_a_function_as_schedule_is_not_compared_but_a_name_is(tmp_path):
    fit(tmp_path, epochs=1, schedule=CosineAnnealingLR)
    assert fit(tmp_path, epochs=1, schedule=lambda o, n: CosineAnnealingLR(o, n), resume=True).ok
    with pytest.raises(RunFolderError, match="schedule = left out, not 'cosine'"):
        fit(tmp_path, epochs=1, schedule="cosine", resume=True)
