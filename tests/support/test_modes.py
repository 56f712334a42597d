from __future__ import annotations

import pytest
import torch

from twostroke.support.modes import evaluating

from .helpers import twice


def test_every_module_gets_its_own_mode_back() -> None:
    net = twice().train()
    net.bn.eval()
    modes = [m.training for m in net.modules()]
    with evaluating(net):
        assert not any(m.training for m in net.modules())
    assert [m.training for m in net.modules()] == modes
    with pytest.raises(KeyboardInterrupt), evaluating(net):
        raise KeyboardInterrupt
    assert [m.training for m in net.modules()] == modes


def test_a_training_mode_of_its_own_is_put_back_without_being_called() -> None:
    class Frozen(torch.nn.Module):
        def train(self, mode: bool = True) -> Frozen:
            return super().train(False)

    net = torch.nn.Sequential(Frozen(), torch.nn.ReLU())
    net[0].training = True
    with evaluating(net):
        assert not net[0].training
    assert net[0].training
    assert net[1].training
