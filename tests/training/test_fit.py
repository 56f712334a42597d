import pytest
import torch
import torch.nn.functional as F
from torch import nn

import twostroke as ts
from tests.listening import told
from tests.toy import toy_data, toy_net, toy_tensors
from twostroke.data import FlipShift
from twostroke.errors import DataError, SettingsError, UnholdableError

QUICK = {"epochs": 4, "batch_size": 20, "lr": 0.1, "probe": 40}
KINDS = {
    "live": None,
    "instance": ts.InstanceWise(warmup=1, gap=1),
    "online": ts.InstanceWise(warmup=1, gap=1, refresh="online"),
    "batch": ts.BatchWise(warmup=1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_and_leaves_the_plain_module(kind):
    model = toy_net(norm=True, dropout=0.1)
    names = list(model.state_dict())
    result = ts.fit(model, toy_data(), alternation=KINDS[kind], **QUICK)
    assert result.status is ts.Status.FINISHED
    assert result.model is model
    assert list(model.state_dict()) == names
    assert not model._forward_hooks
    assert len(result.history) == 4
    assert result.error < 10  # chance is 75 %
    assert result.history[-1].loss_live < result.history[0].loss_live
    held = [r.loss_held is not None for r in result.history]
    assert any(held) is (kind != "live")


def test_without_alternation_it_is_the_loop_one_would_write():
    """Same weights, bit for bit, as a bare PyTorch loop over the same order of examples."""
    from twostroke.training.loop import epoch_seed

    data, model, bare = toy_data(), toy_net(), toy_net()
    ts.fit(model, data, **QUICK, schedule="constant", momentum=0.5)
    optimizer = torch.optim.SGD(
        bare.parameters(), lr=0.1, momentum=0.5, nesterov=True, weight_decay=5e-4
    )
    for epoch in range(4):
        order = torch.Generator().manual_seed(epoch_seed(0, epoch))
        for part in torch.randperm(160, generator=order).split(20):
            x, y = data.train.batch(part)
            optimizer.zero_grad()
            F.cross_entropy(bare(x), y).backward()
            optimizer.step()
    for p, q in zip(model.parameters(), bare.parameters(), strict=True):
        assert torch.equal(p, q)


def test_the_same_seed_gives_the_same_run_and_another_one_another():
    data = toy_data(augmentation=FlipShift(shift=1))
    runs = [
        ts.fit(toy_net(dropout=0.2), data, alternation=KINDS["instance"], **QUICK, seed=seed)
        for seed in (3, 3, 4)
    ]
    losses = [run.history.column("loss_train") for run in runs]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_history_tells_held_and_live_loss_of_the_same_examples():
    result = ts.fit(
        toy_net(),
        toy_data(),
        alternation=ts.InstanceWise(warmup=1, gap=9, drift=None),
        **(QUICK | {"epochs": 3}),
    )
    first, second, third = result.history
    assert (first.phase, second.phase, third.phase) == ("live", "held", "held")
    assert first.loss_held is None
    assert second.loss_held != second.loss_live
    assert second.drift is not None
    assert 0 < second.density < 1
    assert [r.steps for r in result.history] == [8, 16, 24]
    assert all(r.seconds > 0 for r in result.history)
    assert second.stroke_seconds > 0


def test_target_ends_the_run():
    result = ts.fit(toy_net(), toy_data(), **(QUICK | {"epochs": 50}), target_error=30.0)
    assert result.status is ts.Status.TARGET
    assert result.error <= 30.0
    assert all(r.error > 30.0 for r in result.history.epochs[:-1])


def test_divergence_is_named_where_it_happens_and_the_last_good_weights_are_kept():
    model = toy_net()
    kept = {}

    def keep(record):
        kept[record.epoch] = {k: v.clone() for k, v in model.state_dict().items()}

    data = toy_data()
    blow = {"n": 0}

    def loss(output, y):
        if model.training:
            blow["n"] += 1
        value = F.cross_entropy(output, y)
        return value * float("nan") if blow["n"] > 20 else value

    result = ts.fit(model, data, loss=loss, listener=told(epoch=keep), **QUICK)
    assert result.status is ts.Status.DIVERGED
    assert "epoch 3" in result.detail
    assert len(result.history) == 2
    for name, value in model.state_dict().items():
        assert torch.equal(value, kept[2][name])


def test_an_exploding_loss_is_divergence_too():
    result = ts.fit(toy_net(), toy_data(), **(QUICK | {"lr": 300.0}), schedule="constant")
    assert result.status is ts.Status.DIVERGED
    assert "learning rate" in result.advice


def test_an_interrupt_returns_what_was_done():
    def interrupt(where):
        if where.epoch == 2 and where.step == 3:
            raise KeyboardInterrupt

    result = ts.fit(toy_net(), toy_data(), listener=told(step=interrupt), **QUICK)
    assert result.status is ts.Status.INTERRUPTED
    assert len(result.history) == 2
    assert "epoch 3 of 4" in result.detail


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_resume_is_exact(kind, optimizer, tmp_path):
    """Stopped in the middle of any epoch, a run goes on to the same bits."""
    data = toy_data(augmentation=FlipShift(shift=1))
    options = QUICK | {"optimizer": optimizer, "lr": 0.02, "epochs": 5, "ema_decay": 0.9}
    whole = ts.fit(toy_net(norm=True, dropout=0.2), data, alternation=KINDS[kind], **options)

    def interrupt_at(epoch):
        def interrupt(where):
            if (where.epoch, where.step) == (epoch, 2):
                raise KeyboardInterrupt

        return interrupt

    for leg, stop in enumerate((1, 2, 4)):
        model = toy_net(seed=99 if leg else 0, norm=True, dropout=0.2)
        ts.fit(
            model,
            data,
            alternation=KINDS[kind],
            folder=tmp_path,
            resume=leg > 0,
            listener=told(step=interrupt_at(stop)),
            **options,
        )
    model = toy_net(seed=99, norm=True, dropout=0.2)
    result = ts.fit(model, data, alternation=KINDS[kind], folder=tmp_path, resume=True, **options)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    for name in (
        "loss_train",
        "loss_live",
        "loss_held",
        "error",
        "drift",
        "round",
        "phase",
        "error_average",
        "loss_average",
    ):
        assert result.history.column(name) == whole.history.column(name)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batch_size": 161}, SettingsError, "161 is larger than the 160"),
        ({"eposh": 3}, SettingsError, "did you mean 'epochs'"),
        ({"lr": -1.0}, SettingsError, "learning rate"),
        ({"alternation": "instance"}, SettingsError, r"InstanceWise\(warmup=2\).*not 'instance'"),
        ({"alternation": ts.InstanceWise}, SettingsError, "an object with its settings"),
    ],
)
def test_bad_settings(changes, error, message):
    model = toy_net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(error, match=message):
        ts.fit(model, toy_data(), **(QUICK | changes))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_bad_models_and_data_are_refused_before_training():
    x, y = toy_tensors()
    few = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    with pytest.raises(SettingsError, match="classes=4"):
        ts.fit(few, (x, y), **QUICK)
    small = nn.Sequential(nn.Flatten(), nn.Linear(35, 4))
    with pytest.raises(SettingsError, match="does not take images of shape"):
        ts.fit(small, (x, y), **QUICK)
    gelu = nn.Sequential(nn.Flatten(), nn.Linear(36, 9), nn.GELU(), nn.Linear(9, 4))
    with pytest.raises(UnholdableError, match="gelu"):
        ts.fit(gelu, (x, y), alternation=ts.InstanceWise(), **QUICK)
    assert ts.fit(gelu, (x, y), **QUICK).status is ts.Status.FINISHED  # plain training may
    x[3, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="3"):
        ts.fit(toy_net(), (x, y), **QUICK)
    frozen = toy_net().requires_grad_(False)
    with pytest.raises(SettingsError, match="no parameter"):
        ts.fit(frozen, toy_tensors(), **QUICK)


def test_bf16_and_channels_last_train():
    result = ts.fit(
        toy_net(norm=True),
        toy_data(),
        alternation=KINDS["instance"],
        precision="bf16",
        channels_last=True,
        **QUICK,
    )
    assert result.status is ts.Status.FINISHED
    assert result.error < 20
    assert next(result.model.parameters()).dtype == torch.float32


def test_the_averaged_network_is_given():
    model, data = toy_net(norm=True), toy_data()
    result = ts.fit(model, data, ema_decay=0.8, **QUICK)
    assert result.average is not model
    assert not result.average.training
    assert result.average.state_dict().keys() == model.state_dict().keys()
    assert ts.evaluate(result.average, data.test).loss == result.history[-1].loss_average
    assert ts.fit(toy_net(), data, **QUICK).average is None


def test_the_average_of_a_run_that_diverges_is_of_its_last_good_epoch():
    averages = []

    def wild(record):
        averages.append(record.loss_average)
        if record.epoch == 2:
            model[-1].weight.data.fill_(torch.nan)

    model, data = toy_net(), toy_data()
    result = ts.fit(model, data, ema_decay=0.8, listener=told(epoch=wild), **QUICK)
    assert result.status is ts.Status.DIVERGED
    assert ts.evaluate(result.average, data.test).loss == averages[-1]


def test_the_average_is_evaluated_and_changes_nothing():
    plain = ts.fit(toy_net(norm=True), toy_data(), **QUICK)
    averaged = ts.fit(toy_net(norm=True), toy_data(), ema_decay=0.8, **QUICK)
    assert plain.history.column("error") == averaged.history.column("error")
    assert plain.history[-1].loss_average is None
    losses = averaged.history.column("loss_average")
    assert all(loss > 0 for loss in losses)
    assert losses != averaged.history.column("loss_test")
    # an average that keeps nothing of itself is the network
    same = ts.fit(toy_net(norm=True), toy_data(), ema_decay=0.0, **QUICK)
    assert same.history.column("loss_average") == pytest.approx(same.history.column("loss_test"))


def test_batch_norm_that_lags_in_evaluation_is_no_divergence():
    model = toy_net(norm=True)

    def lag(record):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.0
                module.running_mean[0] = -1e4

    result = ts.fit(model, toy_data(), listener=told(epoch=lag), **QUICK)
    assert result.status is ts.Status.FINISHED
    assert result.history[-1].loss_live > 100
    assert result.history[-1].loss_train < 1
