import pytest
import torch
from torch import nn

import twostroke as ts
from tests.toy import toy_data, toy_net
from twostroke.data import FlipShift
from twostroke.errors import SettingsError, UnholdableError
from twostroke.solvers import LBFGS, AugmentedLagrangian, BlockSweep

QUICK = {"epochs": 4, "batch_size": 20, "lr": 0.1, "probe": 40}
KIND = ts.InstanceWise(warmup=1, gap=2, drift=None)


@pytest.mark.parametrize("solver", ["blocks", "lbfgs", "lagrangian"])
def test_weight_strokes_by_a_solver(solver):
    seen: list[ts.Progress] = []
    model = toy_net(norm=True, dropout=0.1)
    result = ts.fit(
        model,
        toy_data(),
        alternation=KIND,
        solver=solver,
        progress=seen.append,
        average=0.9,
        weight_decay=0.0,  # the loss alone is what a stroke lowers
        **QUICK,
    )
    assert result.status is ts.Status.FINISHED
    live, *held = result.history
    assert (live.phase, live.passes, live.optimality) == ("live", 1.0, None)
    assert all(r.phase == "held" and r.passes > 2 and r.optimality > 0 for r in held)
    assert held[1].loss_train <= held[0].loss_train < live.loss_train  # of one stroke
    assert result.error < 20  # chance is 75 %
    assert any("weight stroke of epoch 4" in note for note in result.notes)
    assert [p.step for p in seen if p.epoch == 3][-1] <= 8
    assert held[-1].lr < live.lr


@pytest.mark.parametrize("solver", ["blocks", "lbfgs", "lagrangian"])
def test_memory_format_does_not_matter(solver):
    runs = [
        ts.fit(
            toy_net(norm=True),
            toy_data(),
            alternation=ts.InstanceWise(warmup=0, drift=None),
            solver=solver,
            channels_last=last,
            **(QUICK | {"epochs": 1}),
        )
        for last in (False, True)
    ]
    first, second = (run.history[0].loss_train for run in runs)
    assert first == pytest.approx(second, rel=0.1)


def test_a_solver_with_settings_of_its_own():
    result = ts.fit(
        toy_net(), toy_data(), alternation=KIND, solver=BlockSweep(layers=("7",), steps=3), **QUICK
    )
    assert [round(r.passes) for r in result.history] == [1, 5, 5, 5]


@pytest.mark.parametrize("solver", ["blocks", "lbfgs", "lagrangian"])
def test_a_drift_limit_ends_the_solvers_stroke(solver):
    tight = ts.InstanceWise(warmup=1, gap=9, drift=1e-4)
    result = ts.fit(toy_net(), toy_data(), alternation=tight, solver=solver, **QUICK)
    assert any("STOPPED" in note for note in result.notes)
    assert [r.round for r in result.history] == [
        0,
        1,
        2,
        3,
    ]  # each stroke is over by its first step
    assert all(r.phase == "held" and r.drift > 1e-4 for r in result.history.epochs[1:])
    free = ts.fit(toy_net(), toy_data(), alternation=KIND, solver=solver, **QUICK)
    assert result.history[1].passes < free.history[1].passes


def test_batch_norm_has_new_statistics_after_the_warm_up_and_keeps_them():
    model = toy_net(norm=True)
    kept = []
    ts.fit(
        model,
        toy_data(),
        alternation=KIND,
        solver="blocks",
        callback=lambda r: kept.append(model[1].running_mean.clone()),
        **QUICK,
    )
    assert not torch.equal(kept[0], kept[1])
    assert all(torch.equal(kept[1], k) for k in kept[2:])  # over the second sweep, too


@pytest.mark.parametrize("solver", ["blocks", BlockSweep(sample=0.5), "lbfgs"])
def test_going_on_from_a_checkpoint_is_exact(tmp_path, solver):
    data = toy_data(augmentation=FlipShift(shift=1))
    options = {"alternation": KIND, "solver": solver, **QUICK}
    whole = ts.fit(toy_net(norm=True), data, **options)

    def stop(record):
        if record.epoch == 2:
            raise KeyboardInterrupt

    first = ts.fit(toy_net(norm=True), data, folder=tmp_path, callback=stop, **options)
    assert first.status is ts.Status.INTERRUPTED
    rest = ts.fit(toy_net(norm=True, seed=5), data, folder=tmp_path, resume=True, **options)
    assert rest.history.column("loss_train") == whole.history.column("loss_train")
    for p, q in zip(rest.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_the_history_survives_a_file(tmp_path):
    result = ts.fit(toy_net(), toy_data(), alternation=KIND, solver="lbfgs", **QUICK)
    result.history.save(tmp_path / "metrics.csv")
    assert ts.History.load(tmp_path / "metrics.csv").epochs == result.history.epochs


@pytest.mark.parametrize(
    ("kind", "settings", "text"),
    [
        (None, {"solver": "blocks"}, "InstanceWise"),
        (ts.BatchWise(), {"solver": "blocks"}, "BlockSweep solves weight strokes"),
        (ts.InstanceWise(gated=True), {"solver": LBFGS()}, "gated=False"),
        (ts.InstanceWise(penalty=0.1), {"solver": AugmentedLagrangian()}, "penalty=0"),
        (KIND, {"solver": "sgd"}, "optimizer='sgd'"),
        (KIND, {"solver": "block"}, "did you mean 'blocks'"),
        (KIND, {"solver": 3}, "BlockSweep"),
        (KIND, {"solver": "lbfgs", "precision": "bf16"}, "fp32"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(kind, settings, text):
    model = toy_net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(SettingsError, match=text):
        ts.fit(model, toy_data(), alternation=kind, **settings, **QUICK)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_model_that_the_solver_cannot_treat_is_refused_before_any_training():
    pooled = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 4)
    )
    seen: list[ts.Progress] = []
    with pytest.raises(UnholdableError, match="pooling=True"):
        ts.fit(pooled, toy_data(), alternation=KIND, solver="blocks", progress=seen.append, **QUICK)
    assert not seen
    held = ts.InstanceWise(warmup=1, pooling=True)
    result = ts.fit(pooled, toy_data(), alternation=held, solver="blocks", **QUICK)
    assert result.status is ts.Status.FINISHED
