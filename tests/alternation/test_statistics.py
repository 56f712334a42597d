"""Batch norm's statistics at support strokes."""

import pytest
import torch

import twostroke as ts
from tests.toy import toy_data, toy_net
from twostroke.alternation.statistics import estimate_statistics
from twostroke.errors import SettingsError


def test_statistics_are_those_of_the_data():
    model, data = toy_net(norm=True), toy_data()
    with torch.no_grad():
        model[0].weight.mul_(3)
    model.train()
    model[3].eval()
    assert estimate_statistics(model, data.train, examples=160, batch_size=160)
    x, _ = data.train.batch(torch.arange(160))
    q = model[0](x)
    torch.testing.assert_close(model[1].running_mean, q.mean((0, 2, 3)))
    torch.testing.assert_close(model[1].running_var, q.var((0, 2, 3)))
    assert model[1].momentum == 0.1
    assert model.training
    assert not model[3].training
    assert not estimate_statistics(toy_net(), data.train)


def test_only_some_modules_and_a_count_that_goes_on():
    model, data = toy_net(norm=True, dropout=0.5), toy_data()
    with torch.no_grad():
        model[0].weight.mul_(3)
    model[1].num_batches_tracked.fill_(7)
    assert not estimate_statistics(model, data.train, only=[])
    assert torch.equal(model[1].running_var, torch.ones_like(model[1].running_var))
    assert estimate_statistics(model, data.train, batch_size=40, only=["1"])
    assert int(model[1].num_batches_tracked) == 7 + 4
    assert not torch.equal(model[1].running_var, torch.ones_like(model[1].running_var))


def test_an_interruption_leaves_the_statistics_as_they_were():
    model, data = toy_net(norm=True), toy_data()
    model(data.train.batch(torch.arange(40))[0])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model[4].register_forward_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        estimate_statistics(model, data.train)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model[1].momentum == 0.1


def lagging(model):
    """Weights that have moved since the statistics were gathered."""
    model.train()
    model(toy_data().train.batch(torch.arange(40))[0])
    with torch.no_grad():
        model[0].weight.mul_(torch.randn(model[0].weight.shape[0], 1, 1, 1))
    return model


def test_a_sweep_records_the_network_that_will_be_held():
    data, shares = toy_data(), {}
    for statistics in (0, 160):
        model = toy_net(norm=True)
        alternator = ts.InstanceWise(warmup=0, statistics=statistics).start(model, data.train)
        lagging(model)
        alternator.begin_epoch(0)
        assert alternator.stroke_visits == 160 + statistics
        every = torch.arange(160)
        in_training = ts.record(model.train(), data.train.batch(every)[0])
        shares[statistics] = float(alternator.masks.read(every).drift(in_training))
    assert shares[0] > 0.1
    assert shares[160] < 0.01


def test_frozen_statistics_stay():
    data, model = toy_data(), lagging(toy_net(norm=True))
    frozen = model[1].running_var.clone()
    alternator = ts.InstanceWise(warmup=0).start(model, data.train)  # seen by nobody since then
    alternator.begin_epoch(0)
    assert torch.equal(model[1].running_var, frozen)
    model.train()
    with alternator.step(torch.arange(40)):
        model(data.train.batch(torch.arange(40))[0])
    alternator.end_epoch(1.0)
    alternator._due = True
    alternator.begin_epoch(1)
    assert not torch.equal(model[1].running_var, frozen)


def test_a_number_that_is_none_is_refused():
    with pytest.raises(SettingsError, match="statistics is a number of examples, or 0, not -1"):
        ts.InstanceWise(statistics=-1)
