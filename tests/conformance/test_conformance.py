"""Every form of net goes through one gate: held exactly with nothing left behind, or refused by name."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from torch import nn

import twostroke as ts
from tests.support.helpers import nets, normal
from twostroke.errors import SupportMismatchError, TwostrokeError

from .conform import conform, state
from .nets import CASES


@pytest.mark.parametrize("name", CASES)
def test_held_exactly_or_refused_by_name(name):
    case = CASES[name]
    for training in case.modes:
        torch.manual_seed(0)
        net = case.make()
        net = net.double() if case.double else net
        if name != "exported":
            net.train(training)
        x = case.x()
        if name == "lazy":
            net(x)
        if case.refused is None:
            assert conform(net, x).sites
            continue
        before = state(net)
        with pytest.raises(TwostrokeError, match=case.refused):
            ts.check(net, x)
        assert state(net) == before


@settings(max_examples=25, deadline=None)
@given(nets())
def test_drawn_nets(drawn):
    net, x = drawn
    conform(net, x, pooling=True)
    # batch norm has no statistics of a single value
    conform(net.train(), torch.cat([x, 2 * x + 1]))


def test_what_differs_is_told():
    class Moody(nn.Module):
        count = 0

        def forward(self, x):
            self.count += 1
            return torch.relu(x) * self.count

    found = ts.check(Moody(), normal(2, 3))
    assert not found.exact
    assert "output 0 differs by up to" in str(found)
    assert "from one pass to the next, without any hold" in str(found)

    class Held(nn.Module):  # knows whether it is held
        def forward(self, x):
            return torch.relu(x) + len(torch.overrides._get_current_function_mode_stack())

    found = ts.check(Held(), normal(2, 3))
    assert found.differs == ("output 0 differs by up to 1.0e+00",)


def test_a_model_without_sites_has_nothing_to_check():
    with pytest.raises(SupportMismatchError, match="made no call that can be held"):
        ts.check(nn.Linear(3, 2), normal(2, 3, dtype=torch.float32))
