"""Layers that rest: which ones, that they do, and that nothing else notices."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import twostroke as ts
from tests.toy import toy_data, toy_net
from twostroke.errors import SettingsError
from twostroke.support import Site, Support
from twostroke.training.rest import Rest

QUICK = {"epochs": 6, "batch_size": 20, "lr": 0.05, "probe": 40}
ALWAYS = ts.Settled(
    drift=1.0, after=0.5
)  # any drift will do: all but the head rest from epoch 4 on
X = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(3))


def deep(seed=0):
    """Three sites."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 9, 4),
    )


class Residual(nn.Module):
    """The stem's ReLU is also the block's second; the shortcut has a convolution of its own."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.short, self.relu = nn.Conv2d(4, 4, 1), nn.ReLU()
        self.scale = nn.Parameter(torch.ones(1))
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        z = self.relu(self.norm(self.stem(x)))
        q = self.b(F.relu(self.a(z)))
        z = self.relu(q + self.short(z)) * self.scale
        z = F.relu(self.a(z))  # a second time, late
        return self.head(z.mean((2, 3)) @ self.head.weight)


class Stopped(Exception):
    pass


def frozen(model):
    return [name for name, p in model.named_parameters() if not p.requires_grad]


def rested(model, sites):
    rest = Rest(ts.Settled(), model, X, 10)
    rest.freeze(sites)
    rest.train()
    return rest


def states(model, kind=ALWAYS, **options):
    """State and flags of the model after each epoch."""
    seen = []

    def look(record):
        seen.append(({k: v.clone() for k, v in model.state_dict().items()}, frozen(model), record))

    result = ts.fit(model, toy_data(), rest=kind, callback=look, **(QUICK | options))
    assert result.status is ts.Status.FINISHED
    return seen


# -- what rests ----------------------------------------------------------------------------------


def test_what_ran_before_a_site_rests_with_it():
    model = deep()
    rest = rested(model, 1)
    assert frozen(model) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert [m.training for m in model[:7]] == [True, False, True, True, True, True, True]
    rest.freeze(2)
    assert frozen(model)[4:] == ["4.weight", "4.bias", "5.weight", "5.bias"]
    assert not model[5].training
    rest.close()
    assert frozen(model) == []
    assert all(m.training for m in model.modules())


def test_what_is_used_again_later_does_not_rest():
    model = Residual()
    rested(model, 1)
    assert frozen(model) == ["stem.weight", "stem.bias", "norm.weight", "norm.bias"]
    rested(model, 3)  # `a` runs once more, and the head's weight has a second user
    assert frozen(model)[4:] == ["b.weight", "b.bias", "short.weight", "short.bias"]


def test_a_weight_that_two_modules_share_rests_when_both_have_run():
    model = deep()
    model[7] = nn.Conv2d(8, 8, 3, padding=1)
    twin = nn.Conv2d(8, 8, 3, padding=1)
    twin.weight = model[7].weight
    model = nn.Sequential(*model[:9], twin, nn.ReLU(), *model[9:])
    rested(model, 3)
    assert "7.bias" in frozen(model)
    assert "7.weight" not in frozen(model)
    rested(model, 4)
    assert "7.weight" in frozen(model)


def test_what_was_frozen_before_stays_frozen_afterwards():
    model = deep()
    model[0].requires_grad_(False)
    rest = rested(model, 2)
    rest.close()
    assert frozen(model) == ["0.weight", "0.bias"]


def pieces(*drifts):
    """Supports whose drift from one to the next is given, site by site, in tenths of 10 units."""
    sites = [Site(str(k), 0, "relu", (10,)) for k in range(3)]
    rows = torch.zeros(1, 6, dtype=torch.uint8)
    yield Support(sites, rows)
    for shares in drifts:
        rows = rows.clone()
        for k, tenths in enumerate(shares):
            rows[0, 2 * k] ^= (1 << tenths) - 1
        yield Support(sites, rows)


def test_the_longest_prefix_that_kept_still_for_long_enough():
    drifts = [(1, 0, 0), (0, 3, 0), (0, 0, 5), (1, 0, 0), (5, 0, 0), (5, 5, 5), (0, 0, 0)]
    for kind, wanted in (
        (ts.Settled(drift=0.1, after=0.0), [0, 2, 1, 2, 2, 2, 2, 2]),
        (ts.Settled(drift=0.1, after=0.0, patience=2), [0, 0, 1, 1, 2, 2, 2, 2]),
        (ts.Settled(drift=0.1, after=0.3, patience=2), [0, 0, 1, 1, 2, 2, 2, 2]),
        (ts.Settled(drift=0.1, after=0.4), [0, 0, 0, 2, 2, 2, 2, 2]),
        (ts.Settled(drift=0.01, after=0.0), [0, 0, 1, 2, 2, 2, 2, 2]),
    ):
        rest = Rest(kind, deep(), X, 10)
        seen = []
        for support in pieces(*drifts):
            rest.note(support)
            seen.append(rest.resting)
        # for good: never fewer than before
        expected = [max(wanted[: k + 1]) for k in range(len(wanted))]
        assert seen == expected, kind
    assert rest.drifts[1] == pytest.approx([0.0, 0.3, 0.0])


# -- that it rests -------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_what_rests_keeps_every_bit_and_the_rest_trains_on(optimizer):
    model = deep()
    seen = states(model, optimizer=optimizer, weight_decay=0.1, average=0.9)
    assert [r.resting for _, _, r in seen] == [0, 0, 0, 2, 2, 2]
    assert [len(names) for _, names, _ in seen] == [0, 0, 8, 8, 8, 8]
    assert frozen(model) == []
    (then, _, _), (now, _, _) = seen[2], seen[-1]
    for name in then:
        same = torch.equal(then[name], now[name])
        assert same is (int(name.split(".")[0]) < 7), name
    assert not any(m.training for m in model.modules())


def test_nothing_changes_before_the_first_site_rests():
    one, two = deep(), deep()
    a, b = states(one), states(two, kind=None)
    for name, value in a[2][0].items():
        assert torch.equal(value, b[2][0][name])
    assert a[2][2].loss_live == b[2][2].loss_live
    assert a[3][2].loss_live != b[3][2].loss_live


def test_gradients_are_those_of_the_network_that_trains_on():
    model, other = deep().double(), deep().double()
    x, y = toy_data().train.batch(torch.arange(16))
    rest = Rest(ts.Settled(), model, x[:1].double(), 10)
    rest.freeze(1)
    rest.train()
    other.train()
    other[1].eval()
    for net in (model, other):
        torch.manual_seed(0)  # the same dropout
        F.cross_entropy(net(x.double()), y).backward()
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        if int(name.split(".")[0]) < 3:
            assert p.grad is None
            assert q.grad.abs().max() > 0
        else:
            assert torch.equal(p.grad, q.grad), name


def test_no_backward_pass_goes_below():
    model = deep()
    rested(model, 2)
    z = model[:7](X)
    assert not z.requires_grad
    assert model[7:](z).requires_grad


@pytest.mark.parametrize(
    "kind",
    [
        ts.InstanceWise(warmup=1, gap=1, drift=None, penalty=0.1),
        ts.InstanceWise(warmup=1, drift=None, refresh="running"),
        ts.BatchWise(warmup=1),
        ts.SlowSupport(warmup=1),
    ],
)
def test_layers_rest_under_any_alternation(kind):
    model = deep()
    seen = states(model, alternation=kind)
    assert [r.resting for _, _, r in seen] == [0, 0, 0, 2, 2, 2]
    assert torch.equal(seen[2][0]["4.weight"], seen[-1][0]["4.weight"])
    assert not torch.equal(seen[2][0]["7.weight"], seen[-1][0]["7.weight"])


# -- that nothing stays --------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Stopped, KeyboardInterrupt])
def test_flags_and_modes_are_put_back_however_it_ends(error):
    model = deep()
    model[7].bias.requires_grad_(False)
    within = []

    def stop(where):
        if where.epoch == 4:
            within.append(([m.training for m in model], frozen(model)))
            raise error

    options = QUICK | {"rest": ALWAYS, "progress": stop}
    if error is Stopped:
        with pytest.raises(Stopped):
            ts.fit(model, toy_data(), **options)
        assert all(m.training for m in model)
    else:
        assert ts.fit(model, toy_data(), **options).status is ts.Status.INTERRUPTED
        assert not any(m.training for m in model)
    ((modes, names),) = within
    assert modes == [True, False, True, True, True, False, True, True, True, True, True]
    assert len(names) == 9
    assert frozen(model) == ["7.bias"]


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
@pytest.mark.parametrize("epoch", [2, 4])
def test_a_stopped_run_goes_on_as_it_would_have(tmp_path, optimizer, epoch):
    # site 0 settles at 3 %, two epochs in a row
    options = QUICK | {"rest": ts.Settled(drift=0.03, patience=2, after=0.0), "lr": 0.02}
    options |= {"optimizer": optimizer, "weight_decay": 0.1, "epochs": 8}
    whole = deep()
    straight = ts.fit(whole, toy_data(), **options)
    assert 0 in straight.history.column("resting")
    assert straight.history[-1].resting > 0

    def stop(record):
        if record.epoch == epoch:
            raise Stopped

    with pytest.raises(Stopped):
        ts.fit(deep(), toy_data(), folder=tmp_path, callback=stop, **options)
    resumed = deep(1)
    result = ts.fit(resumed, toy_data(), folder=tmp_path, resume=True, **options)
    assert result.history.column("resting") == straight.history.column("resting")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"drift": 0}, {"drift": 1.1}, {"patience": 0}, {"patience": 1.5}, {"after": 1}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        ts.Settled(**wrong)


def test_what_cannot_rest_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 4))
    with pytest.raises(SettingsError, match="this one has 1"):
        ts.fit(net, toy_data(), rest=ts.Settled(), **QUICK)
    ts.fit(toy_net(), toy_data(), rest=ts.Settled(), **(QUICK | {"epochs": 1}))
