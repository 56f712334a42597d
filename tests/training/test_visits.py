import pytest
import torch
import torch.nn.functional as F

import twostroke as ts
from tests.toy import toy_data, toy_net
from twostroke.errors import SettingsError
from twostroke.training.visits import Selective, Visits

QUICK = {"epochs": 6, "batch_size": 20, "lr": 0.05, "probe": 40}


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def test_weights_leave_the_expected_sum_as_it_is():
    visits = Visits(Selective(drop=0.7, full=0.0), 200, 10)
    losses = torch.rand(200, generator=drawn())
    visits.seen(torch.arange(200), losses)
    total = torch.zeros(200)
    for seed in range(3000):
        order = visits.order(1, drawn(seed), None)
        assert len(order.unique()) == len(order)
        total.index_add_(0, order, visits.weights[order])
    unsettled = losses >= losses.mean()
    assert torch.equal(total[unsettled], torch.full_like(total[unsettled], 3000))
    # standard deviation of one mean: sqrt(0.7 / 0.3 / 3000) = 0.028; of the mean of all: 0.003
    assert (total / 3000 - 1).abs().max() < 5 * 0.028
    assert abs(total.mean() / 3000 - 1) < 5 * 0.003


def test_the_first_and_the_last_epochs_see_everything():
    visits = Visits(Selective(drop=0.5, full=0.2), 50, 10)
    assert len(visits.order(0, drawn(), None)) == 50  # nothing is known yet
    visits.seen(torch.arange(50), torch.arange(50.0))
    lengths = [len(visits.order(epoch, drawn(epoch), None)) for epoch in range(10)]
    assert all(length < 50 for length in lengths[:8])
    assert lengths[8:] == [50, 50]
    assert visits.weights is None


@pytest.mark.parametrize(
    ("full", "epochs", "last"), [(0.15, 2, 1), (0.15, 3, 1), (0.07, 100, 7), (0.0, 3, 0)]
)
def test_the_last_share_is_rounded_up(full, epochs, last):
    visits = Visits(Selective(drop=0.9, full=full), 50, epochs)
    visits.seen(torch.arange(50), torch.arange(50.0))
    lengths = [len(visits.order(epoch, drawn(epoch), None)) for epoch in range(epochs)]
    assert [length == 50 for length in lengths] == [False] * (epochs - last) + [True] * last


def test_what_was_never_visited_counts_as_unsettled():
    visits = Visits(Selective(drop=0.9), 10, 10)
    visits.seen(torch.arange(5), torch.tensor([0.0, 0.0, 0.0, 0.0, 9.0]))
    for seed in range(20):
        assert set(range(4, 10)) <= set(visits.order(1, drawn(seed), None).tolist())


@pytest.mark.parametrize(("by", "settled"), [("loss", {0, 1}), ("drift", {0, 2}), ("both", {0})])
def test_scores(by, settled):
    visits = Visits(Selective(drop=0.999, by=by), 4, 10)
    visits.seen(torch.arange(4), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    order = visits.order(1, drawn(), torch.tensor([0.0, 0.1, 0.0, 0.1]))
    assert set(order.tolist()) == set(range(4)) - settled


@pytest.mark.parametrize("by", ["drift", "both"])
def test_fit_scores_by_drift_from_the_sweeps(by):
    result = ts.fit(
        toy_net(),
        toy_data(),
        alternation=ts.InstanceWise(warmup=1, gap=1),
        visits=ts.Selective(drop=0.5, full=0.0, by=by),
        **QUICK,
    )
    visited = result.history.column("visits")
    assert visited[:2] == [160, 160]  # no second sweep yet
    assert all(n < 160 for n in visited[3:])
    assert result.error < 20


def test_fit_visits_less_takes_fewer_steps_and_ends_the_schedule():
    model = toy_net()
    result = ts.fit(model, toy_data(), visits=ts.Selective(drop=0.8, full=0.2), **QUICK)
    visited = result.history.column("visits")
    assert visited[0] == 160
    assert min(visited[1:5]) < 120
    assert visited[-1] == 160
    steps = [-(-n // 20) for n in visited]
    assert result.history.column("steps") == torch.tensor(steps).cumsum(0).tolist()
    whole = ts.fit(toy_net(), toy_data(), **QUICK)
    assert result.history.column("lr") == whole.history.column("lr")  # by progress
    assert result.error < 20


def test_the_mean_loss_is_that_of_the_whole_set_whatever_was_left_out():
    options = QUICK | {"lr": 1e-9, "visits": ts.Selective(drop=0.9, full=0.0)}
    history = ts.fit(toy_net(), toy_data(), **options).history
    whole, *others = history.column("loss_train")
    assert max(history.column("visits")[1:]) < 110  # of 160
    # the standard deviation of a mean over ten of a hundred settled ones is below 0.1 of it
    assert others == pytest.approx([whole] * 5, rel=0.2)


def test_a_stopped_run_goes_on_as_it_would_have(tmp_path):
    options = QUICK | {"visits": ts.Selective(drop=0.6, full=0.0, by="both")}
    kind = ts.InstanceWise(warmup=1, gap=1)
    whole = toy_net()
    ts.fit(whole, toy_data(), alternation=kind, **options)

    class Stop(Exception):
        pass

    def stop(record):
        if record.epoch == 4:
            raise Stop

    with pytest.raises(Stop):
        ts.fit(toy_net(), toy_data(), alternation=kind, folder=tmp_path, callback=stop, **options)
    resumed = toy_net(1)
    result = ts.fit(resumed, toy_data(), alternation=kind, folder=tmp_path, resume=True, **options)
    assert len(result.history) == 6
    for p, q in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_loss_that_cannot_be_weighted_is_refused():
    with pytest.raises(SettingsError, match="reduction"):
        ts.fit(
            toy_net(),
            toy_data(),
            loss=lambda output, y: F.cross_entropy(output, y),
            visits=ts.Selective(),
            **QUICK,
        )


@pytest.mark.parametrize(
    ("by", "kind", "fix"),
    [
        ("drift", None, "by='loss'"),
        ("both", ts.BatchWise(), "by='loss'"),
        ("drift", ts.SlowSupport(), "by='loss'"),
        ("both", ts.InstanceWise(refresh="online"), "refresh='sweep'"),
        ("drift", ts.InstanceWise(refresh="running"), "refresh='sweep'"),
        ("loss", ts.InstanceWise(refresh="running"), "visits=None"),
    ],
)
def test_visits_that_could_never_be_selective_are_refused(by, kind, fix):
    with pytest.raises(SettingsError, match=fix):
        ts.fit(toy_net(), toy_data(), alternation=kind, visits=ts.Selective(by=by), **QUICK)


@pytest.mark.parametrize("wrong", [{"drop": 0}, {"drop": 1}, {"full": -0.1}, {"by": "luck"}])
def test_settings_are_checked(wrong):
    with pytest.raises(SettingsError):
        ts.Selective(**wrong)
