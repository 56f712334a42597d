import pytest
import torch
import torch.nn.functional as F
from torch import nn

import twostroke as ts
from tests.solvers.networks import KINDS, made, objective, problem
from twostroke.errors import SettingsError, SupportMismatchError, UnholdableError
from twostroke.solvers import HeldLoss


@pytest.mark.parametrize("kind", KINDS)
def test_value_and_gradient_are_those_of_the_held_model(kind):
    model, support, x, y = made(kind)
    p = HeldLoss.of(model, support, x, y, chunk=7, weight_decay=0.1)
    with p.solving():
        look = p.look()
    with ts.hold(model, support):
        squares = sum(w.square().sum() for w in model.parameters())
        value = F.cross_entropy(model(x), y) + 0.05 * squares
    value.backward()
    assert look.value == pytest.approx(float(value.detach()), rel=1e-12)
    assert look.value == pytest.approx(objective(p), rel=1e-12)
    for name, w in model.named_parameters():
        assert torch.allclose(look.gradient[name], w.grad, rtol=1e-9, atol=1e-12)
    assert p.value() == pytest.approx(look.value, rel=1e-12)
    assert p.passes == 2


def test_another_place_may_be_looked_at():
    p = problem("batch norm", weight_decay=0.1)
    there = {n: w + 0.1 for n, w in p.copy().items()}
    with p.solving():
        before = p.value()
        seen = p.look(at=there)
        assert p.value() == before
        p.put(there)
        assert p.look().value == seen.value != before


def test_gradients_and_modes_are_left_alone_and_frozen_weights_too():
    p = problem("batch norm")
    p.model.train()
    p.model[0].weight.grad = torch.ones_like(p.model[0].weight)
    p.model[4].requires_grad_(False)
    p = HeldLoss(p.model, p.parts)
    with p.solving():
        p.look()
        assert not p.model[1].training
    assert p.model.training
    assert p.model[1].training
    assert (p.model[0].weight.grad == 1).all()
    assert p.model[8].weight.grad is None
    assert [block.layer for block in p.blocks] == ["0", "1", "8"]
    assert p.blocks[0].size == 4 * 2 * 9 + 4


def test_what_makes_no_problem_is_refused():
    model, support, x, y = made("fully connected")
    with pytest.raises(SupportMismatchError, match="x has 39 examples, y 40 and the support 40"):
        HeldLoss.of(model, support, x[1:], y)
    with pytest.raises(SettingsError, match="no examples"):
        HeldLoss(model, [])
    with pytest.raises(SettingsError, match="weight_decay"):
        HeldLoss.of(model, support, x, y, weight_decay=-1)
    with pytest.raises(SettingsError, match="chunk"):
        HeldLoss.of(model, support, x, y, chunk=0)
    with pytest.raises(SettingsError, match="no parameter"):
        HeldLoss.of(nn.Sequential(nn.ReLU()), support, x, y)
    with pytest.raises(UnholdableError, match="DataParallel"):
        HeldLoss.of(nn.DataParallel(model), support, x, y)
