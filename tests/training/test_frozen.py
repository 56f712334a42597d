"""What a user has frozen stays frozen: modules in evaluation mode, and those that do not train."""

import pytest
import torch
from torch import nn

import twostroke as ts
from tests.toy import toy_data, toy_net
from twostroke.alternation.statistics import estimate_statistics
from twostroke.sparsity import Recipe, dense_sparse_dense
from twostroke.support.modes import frozen, train_but

QUICK = {"epochs": 2, "batch_size": 40, "lr": 0.05, "probe": 40}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.BatchNorm2d(6, affine=False), nn.ReLU()
        )
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(96, 4))

    def forward(self, x):
        seen.append((self.training, self.body[1].training, self.norm.training, self.drop.training))
        return self.head(self.drop(self.norm(self.body(x))))


seen: list[tuple[bool, ...]] = []


def by_mode(net):
    net.train()
    net.norm.eval()
    net.drop.eval()
    return {"norm"}


def by_parameters(net):
    """A backbone that does not train, in a model that comes from an evaluation."""
    net.body.requires_grad_(False)
    net.eval()
    return {"body.1", "body.2"}


def by_class(net):
    class Frozen(Net):
        def train(self, mode=True):
            super().train(mode)
            self.norm.eval()
            return self

    net.__class__ = Frozen
    net.eval()
    return {"norm"}


def statistics(net):
    return {
        name: [buffer.clone() for buffer in module.buffers()]
        for name, module in net.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }


def fit(net, data):
    return ts.fit(net, data, alternation=ts.InstanceWise(warmup=0, gap=1), **QUICK)


def batch(net, data):
    return ts.fit(net, data, alternation=ts.BatchWise(warmup=1), **QUICK)


def sparse(net, data):
    return dense_sparse_dense(net, data, phases=Recipe(epochs=(1, 1, 1), batch_size=40))


def distill(net, data):
    teacher, (x, _) = toy_net().eval(), data.train.batch(torch.arange(160))
    return ts.distill(net, ts.Guide.record(teacher, x), x, weight=0, epochs=2)


@pytest.mark.parametrize("freeze", [by_mode, by_parameters, by_class])
@pytest.mark.parametrize("call", [fit, batch, sparse, distill])
def test_statistics_stay(freeze, call):
    net = Net()
    kept = freeze(net)
    before = statistics(net)
    seen.clear()
    result = call(net, toy_data())
    assert result.ok
    after = statistics(net)
    same = {name for name in before if all(map(torch.equal, before[name], after[name]))}
    assert same == kept
    modes = {mode for mode in seen if mode[0]}  # in training
    assert (
        modes
        == {
            by_mode: {(True, True, False, False)},
            by_parameters: {(True, False, True, True)},
            by_class: {(True, True, False, True)},
        }[freeze]
    )
    assert not any(module.training for module in net.modules())
    if call in (fit, batch):
        (said,) = [note for note in result.notes if "frozen" in note]
        assert all(name in said for name in kept)


def test_what_is_frozen():
    net = Net().train()
    assert frozen(net) == []
    net.norm.eval()
    assert frozen(net) == [net.norm]
    net.body.requires_grad_(False)
    assert set(frozen(net)) == {net.norm, net.body, *net.body}
    net.eval()
    assert set(frozen(net)) == {net.body, *net.body}
    train_but(net, frozen(net))
    assert [name for name, m in net.named_modules() if not m.training] == [
        "body", "body.0", "body.1", "body.2", "body.3"
    ]  # fmt: skip


def test_a_loop_of_ones_own_and_a_sweep():
    net, data = Net().train(), toy_data()
    net.norm.eval()
    before = statistics(net)
    alternator = ts.InstanceWise(warmup=0).start(net, data.train)
    net.eval()  # an evaluation of the loop's, from which the mode of each module cannot be told
    alternator.begin_epoch(0)
    after = statistics(net)
    assert all(map(torch.equal, before["norm"], after["norm"]))
    assert not torch.equal(before["body.1"][0], after["body.1"][0])
    net.train()
    net.norm.eval()
    assert estimate_statistics(net, data.train)
    assert all(map(torch.equal, before["norm"], statistics(net)["norm"]))
    assert not net.norm.training
    assert net.training
