import pytest
import torch
import torch.nn.functional as F

import twostroke as ts
from tests.toy import toy_data, toy_net
from twostroke.data import FlipShift


def test_live_loss_and_error_whatever_the_batch_size():
    model, data = toy_net(norm=True).double().float(), toy_data()
    model.eval()
    x, y = data.test.batch(torch.arange(80))
    output = model(x)
    loss, error = F.cross_entropy(output, y).item(), 100 * (output.argmax(1) != y).sum().item() / 80
    for size in (80, 33, 1):
        found = ts.evaluate(model, data.test, batch_size=size)
        assert found.loss == pytest.approx(loss, rel=1e-6)
        assert found.error == error


def test_the_mode_is_put_back_module_by_module():
    model = toy_net(norm=True).train()
    model[1].eval()
    ts.evaluate(model, toy_data().test)
    assert model.training
    assert not model[1].training
    assert model[2].training


def test_with_a_rule_masks_stand_in_place_of_the_activation():
    model, data = toy_net(), toy_data()
    x, y = data.test.batch(torch.arange(80))
    rule = ts.PositiveThreshold(0.5)
    q = model[1](model[0](x))
    z = q * (q > 0.5)
    q = model[4](z)
    z = q * (q > 0.5)
    expected = F.cross_entropy(model[7](model[6](z)), y).item()
    assert ts.evaluate(model, data.test, rule=rule).loss == pytest.approx(expected, rel=1e-6)
    # a threshold of zero is ReLU
    live = ts.evaluate(model, data.test)
    assert ts.evaluate(model, data.test, rule=ts.PositiveThreshold(0.0)) == live


def test_indices_and_view_choose_what_is_looked_at():
    model, data = toy_net(), toy_data(augmentation=FlipShift(shift=2))
    some = torch.tensor([3, 9, 4])
    x, y = data.train.batch(some, view=5, seed=2)
    found = ts.evaluate(model, data.train, indices=some, view=5, seed=2)
    assert found.loss == pytest.approx(F.cross_entropy(model(x), y).item(), rel=1e-6)
    assert found.loss != pytest.approx(ts.evaluate(model, data.train, indices=some).loss)
