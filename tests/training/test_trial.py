"""What a run will do is tried before it trains: refused by name then, or let through; nothing is changed."""

import pytest
import torch
from torch import nn

import twostroke as ts
from tests.listening import told
from tests.toy import toy_data, toy_net, toy_tensors
from twostroke.errors import SettingsError, SupportMismatchError, UnholdableError

QUICK = {"epochs": 2, "batch_size": 20, "lr": 0.05, "probe": 40}


class Own(nn.Module):
    """A function in training mode only."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x) if self.training else x


def net(layer):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), layer, nn.Linear(8, 4))


def refused(model=None, data=None, **options) -> str:
    """What a run is refused with before its first step."""
    taken = []
    with pytest.raises((SettingsError, UnholdableError, SupportMismatchError)) as caught:
        ts.fit(
            model or toy_net(),
            data or toy_data(),
            listener=told(step=taken.append),
            **(QUICK | options),
        )
    assert not taken
    return str(caught.value)


@pytest.mark.parametrize("kind", [ts.InstanceWise(warmup=1), ts.BatchWise(warmup=1)])
def test_an_own_dropout_trains_in_every_phase(kind):
    model = net(Own(lambda x: x * (torch.rand_like(x) < 0.8) / 0.8))
    result = ts.fit(model, toy_data(), alternation=kind, **QUICK)
    assert result.history.column("phase") == ["live", "held"]


@pytest.mark.parametrize(
    ("layer", "kind", "message"),
    [
        (Own(torch.tanh), ts.InstanceWise(warmup=5), "tanh in 3"),
        (Own(torch.tanh), ts.BatchWise(warmup=5), "tanh in 3"),
        (Own(torch.relu), ts.InstanceWise(warmup=5), "3#0 has no mask"),
        (
            Own(lambda x: x @ x),
            ts.InstanceWise(warmup=5),
            "a step of training (live) fails on a batch of 20: ",
        ),
    ],
)
def test_what_only_a_later_phase_meets_is_refused_before_the_first_step(layer, kind, message):
    assert message in refused(net(layer), alternation=kind)


def odd(count=161):
    """So many examples, of which the last batch has one."""
    return (*toy_tensors(count), *toy_tensors(40, seed=1))


@pytest.mark.parametrize("parts", [1, 7])
def test_a_last_batch_of_one_with_batch_norm(parts):
    model = net(nn.BatchNorm1d(8))
    count = 161 if parts == 1 else 170  # the last ten in seven parts
    message = refused(model, odd(count), accumulate=parts)
    assert f"on a batch of 1, the smallest that {count} examples in batches of 20" in message
    assert "Expected more than 1 value per channel" in message
    assert ts.fit(model, odd(), **(QUICK | {"batch_size": 23})).ok
    # of images there is more than one value
    assert ts.fit(toy_net(norm=True), odd(), **QUICK).ok


def test_the_trial_changes_nothing():
    """A run begins with what it was given, though it was tried on it."""
    seen = []

    class Probe(ts.BatchWise):
        def machine(self, given):
            model = given.model
            model[0].weight.grad = torch.full_like(model[0].weight, 7.0)
            seen.append([b.clone() for b in model.buffers()])
            seen.append([p.clone() for p in model.parameters()])
            machine = super().machine(given)
            rehearsal, begin = machine.rehearsal, machine.begin_epoch

            def spied(x):
                seen.append("tried")
                return rehearsal(x)

            def begun(epoch):
                if epoch == 0:
                    assert all(map(torch.equal, model.buffers(), seen[0]))
                    assert all(map(torch.equal, model.parameters(), seen[1]))
                    assert float(model[0].weight.grad.mean()) == 7
                    assert not given.optimizer.state
                    seen.append("the same")
                begin(epoch)

            machine.rehearsal, machine.begin_epoch = spied, begun
            return machine

    ts.fit(toy_net(norm=True, dropout=0.3), toy_data(), alternation=Probe(warmup=1), **QUICK)
    assert seen[2:] == ["tried", "the same"]


class Strange(torch.optim.SGD):
    def step(self, closure):
        return super().step(closure)


SGD = torch.optim.SGD(toy_net().parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schedule": lambda o, n: torch.optim.lr_scheduler.ReduceLROnPlateau(o)},
            "step needs metrics",
        ),
        (
            {"schedule": lambda o, n: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, n - 1)},
            "ends after 15",
        ),
        (
            {"schedule": lambda o, n: torch.optim.lr_scheduler.StepLR(SGD, 3)},
            "of another optimiser",
        ),
        ({"schedule": lambda o, n: None}, "a NoneType, which has no step"),
        ({"optimizer": torch.optim.LBFGS}, "LBFGS.step needs closure"),
        ({"optimizer": lambda p: Strange(p, lr=0.1)}, "Strange.step needs closure"),
        ({"optimizer": lambda p: torch.optim.SparseAdam(list(p))}, "sparse gradients only"),
        ({"optimizer": lambda p: None}, "gives a NoneType"),
    ],
)
def test_what_a_step_cannot_drive_is_refused_by_name(changes, message):
    assert message in refused(**changes)


def test_a_warm_up_beyond_the_end_is_said():
    heard = []
    for warmup, words in ((2, "a warm-up of 2 epochs is all"), (ts.Plateau(patience=9), "plateau")):
        kind = ts.InstanceWise(warmup=warmup)
        result = ts.fit(
            toy_net(), toy_data(), alternation=kind, listener=told(note=heard.append), **QUICK
        )
        assert [words in note for note in result.notes] == [words in note for note in heard]
        assert sum(words in note for note in result.notes) == 1
        heard.clear()
    result = ts.fit(toy_net(), toy_data(), alternation=ts.BatchWise(warmup=1), **QUICK)
    assert result.notes == []
