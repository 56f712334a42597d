"""The state machines, driven by hand as a loop of one's own would."""

import pytest
import torch
import torch.nn.functional as F

import twostroke as ts
from tests.toy import toy_data, toy_net
from twostroke.alternation import Live, Phase
from twostroke.data import FlipShift
from twostroke.errors import NotReplayableError, SettingsError, UnholdableError

ALL = torch.arange(160)


def epoch(alternator, model, number, *, lr=0.0, loss=None):
    """One epoch at batch 40; with lr 0 the weights stay where they are."""
    alternator.begin_epoch(number)
    phases, total = [], 0.0
    for step, indices in enumerate(ALL.split(40)):
        x, y = alternator.source.batch(indices, view=alternator.view, seed=0)
        with alternator.step(indices, step / 4):
            phases.append(alternator.phase)
            value = F.cross_entropy(model(x), y)
        value.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= lr * p.grad
                p.grad = None
        alternator.after_step()
        total += value.item() / 4
    alternator.end_epoch(total if loss is None else loss)
    return phases


def start(kind, model, data=None, **options):
    return kind.start(model, (data or toy_data()).train, **options)


def test_live_never_holds():
    model = toy_net()
    alternator = start(Live(), model)
    assert epoch(alternator, model, 0) == [Phase.LIVE] * 4
    assert alternator.held_network(ALL) is None
    assert alternator.penalty() is None


def test_rounds_follow_the_warm_up_at_the_gap():
    model = toy_net()
    alternator = start(ts.InstanceWise(warmup=2, gap=3, drift=None), model)
    seen = []
    for number in range(8):
        phases = epoch(alternator, model, number)
        seen.append((str(phases[0]), alternator.round))
    assert seen == [
        ("live", 0),
        ("live", 0),
        ("held", 1),
        ("held", 1),
        ("held", 1),
        ("held", 2),
        ("held", 2),
        ("held", 2),
    ]


def test_the_sweep_stores_what_record_gives_and_the_step_holds_it():
    model = toy_net()
    data = toy_data()
    alternator = start(ts.InstanceWise(warmup=0, drift=None), model, data)
    alternator.begin_epoch(0)
    x, _ = data.train.batch(ALL)
    assert alternator.masks.store.read(ALL, "cpu") == ts.record(model, x)
    before = [p.clone() for p in model.parameters()]
    with torch.no_grad():  # move the weights: the held network must keep the old masks
        for p in model.parameters():
            p += 0.3 * torch.randn_like(p)
    indices = torch.tensor([5, 3, 77])
    with alternator.step(indices, 0.0):
        held = model(x[indices])
    old = toy_net()
    old.load_state_dict({k: b for (k, _), b in zip(model.named_parameters(), before, strict=True)})
    with ts.hold(model, ts.record(old, x[indices])):
        expected = model(x[indices])
    assert torch.equal(held, expected)
    assert not torch.equal(held, model(x[indices]))


def test_online_records_while_an_ordinary_epoch_runs():
    model = toy_net()
    alternator = start(ts.InstanceWise(warmup=1, gap=1, drift=None, refresh="online"), model)
    phases = [str(epoch(alternator, model, n)[0]) for n in range(5)]
    assert phases == ["live", "recording", "held", "recording", "held"]
    x, _ = alternator.source.batch(ALL)
    assert alternator.masks.store.read(ALL, "cpu") == ts.record(model, x)  # lr 0: nothing moved


def test_drift_beyond_the_limit_ends_the_stroke_at_once_and_the_rest_is_live():
    model = toy_net()
    alternator = start(ts.InstanceWise(warmup=0, gap=5, drift=0.02, checks=4), model)
    phases = epoch(alternator, model, 0, lr=5.0)
    assert phases[0] is Phase.HELD
    assert phases[-1] is Phase.LIVE
    assert alternator.drift > 0.02
    # and the next epoch begins with a new round
    alternator.begin_epoch(1)
    assert (alternator.phase, alternator.round) == (Phase.HELD, 2)


def test_drift_is_the_share_of_probe_units_that_changed():
    model = toy_net()
    alternator = start(ts.InstanceWise(warmup=0, drift=None, probe=50, gap=9), model)
    alternator.begin_epoch(0)
    x, _ = alternator.source.batch(alternator.probe)
    before = ts.record(model, x)
    with torch.no_grad():
        next(model.parameters()).mul_(-1)
    alternator.end_epoch(1.0)
    now = ts.record(model, x)
    share = sum((before[s] != now[s]).sum().item() for s in before.sites)
    share /= 50 * sum(s.units for s in before.sites)
    assert float(alternator.drift) == pytest.approx(share, abs=1e-12)
    assert len(alternator.probe.unique()) == 50


def test_plateau_ends_warm_up_and_stroke():
    model = toy_net()
    kind = ts.InstanceWise(
        warmup=ts.Plateau(patience=1), gap=9, plateau=ts.Plateau(patience=1), drift=None
    )
    alternator = start(kind, model)
    rounds = []
    for number, loss in enumerate([1.0, 0.5, 0.5, 0.4, 0.3, 0.3, 0.2]):
        epoch(alternator, model, number, loss=loss)
        rounds.append(alternator.round)
    assert rounds == [0, 0, 0, 1, 1, 1, 2]


def test_momentum_is_kept_or_reset_at_a_support_stroke():
    for policy in ("keep", "reset"):
        model = toy_net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        kind = ts.InstanceWise(warmup=0, gap=1, drift=None, momentum=policy)
        alternator = start(kind, model, optimizer=optimizer)
        alternator.begin_epoch(0)
        model(torch.randn(2, 1, 6, 6)).sum().backward()
        optimizer.step()
        assert optimizer.state
        alternator.end_epoch(1.0)
        alternator.begin_epoch(1)
        assert bool(optimizer.state) is (policy == "keep")
    with pytest.raises(SettingsError, match="optimizer"):
        start(ts.InstanceWise(momentum="reset"), toy_net())


def test_penalty_is_the_weighted_inconsistency():
    model = toy_net()
    alternator = start(ts.InstanceWise(warmup=0, drift=None, penalty=0.5), model)
    alternator.begin_epoch(0)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn_like(p)
    x, _ = alternator.source.batch(ALL[:7])
    with alternator.step(ALL[:7]):
        model(x)
        penalty = alternator.penalty()
    with ts.hold(model, alternator.masks.store.read(ALL[:7], "cpu"), penalty=True) as held:
        model(x)
    assert penalty.item() == pytest.approx(0.5 * held.inconsistency.item())
    assert penalty.item() > 0
    assert alternator.penalty() is None  # outside of a step there is none


def test_a_round_keeps_the_view_that_its_masks_were_recorded_from():
    model = toy_net()
    data = toy_data(augmentation=FlipShift(shift=2))
    alternator = start(ts.InstanceWise(warmup=1, gap=2, drift=None), model, data)
    views = []
    for number in range(5):
        epoch(alternator, model, number)
        views.append(alternator.view)
    assert views == [0, 1, 1, 3, 3]
    x, _ = data.train.batch(ALL, view=3, seed=0)
    assert alternator.masks.store.read(ALL, "cpu") == ts.record(model, x)


def test_augmentation_that_cannot_be_replayed_is_refused():
    class Restless:
        shape, classes = (1, 6, 6), tuple("0123")

        def __len__(self):
            return 160

        def batch(self, indices, *, view=None, seed=0):
            return torch.randn(len(indices), 1, 6, 6), indices % 4

    with pytest.raises(NotReplayableError):
        ts.InstanceWise().start(toy_net(), Restless())
    Live().start(toy_net(), Restless())


def test_batch_wise_holds_by_rule_after_its_warm_up():
    model = toy_net()
    alternator = start(ts.BatchWise(warmup=1, density=0.5), model)
    assert epoch(alternator, model, 0) == [Phase.LIVE] * 4
    assert epoch(alternator, model, 1) == [Phase.HELD] * 4
    x, _ = alternator.source.batch(ALL[:20])
    alternator.begin_epoch(2)
    with alternator.step(ALL[:20]):
        masked = model(x)
    with ts.hold(model, ts.BatchEnergy(density=0.5), gated=True):
        assert torch.equal(masked, model(x))
    assert not torch.equal(masked, model(x))


def test_what_cannot_be_held_is_refused_before_any_work():
    gelu = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.GELU(), torch.nn.Flatten(), torch.nn.Linear(48, 4)
    )
    with pytest.raises(UnholdableError, match="gelu in 1"):
        start(ts.InstanceWise(), gelu)
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 4))
    with pytest.raises(SettingsError, match="no site"):
        start(ts.InstanceWise(), linear)


KINDS = {
    "sweep": ts.InstanceWise(warmup=1, gap=2, drift=0.5),
    "online": ts.InstanceWise(warmup=1, gap=2, drift=0.5, refresh="online"),
    "batch": ts.BatchWise(warmup=1),
}


@pytest.mark.parametrize("name", KINDS)
def test_state_goes_on_where_it_was(name):
    kind = KINDS[name]
    straight, first = toy_net(), toy_net()
    a, b = start(kind, straight), start(kind, first)
    for number in range(3):
        epoch(a, straight, number, lr=0.05)
        epoch(b, first, number, lr=0.05)
    second = toy_net(seed=1)
    second.load_state_dict(first.state_dict())
    c = start(kind, second)
    c.restore(*b.state())
    for number in range(3, 7):
        assert epoch(a, straight, number, lr=0.05) == epoch(c, second, number, lr=0.05)
    for p, q in zip(straight.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("kind", [Live(), ts.BatchWise(), ts.InstanceWise(warmup=0)])
def test_steps_outside_of_an_epoch_are_refused(kind):
    model = toy_net()
    alternator = start(kind, model)

    def step(progress=0.0):
        with alternator.step(ALL[:20], progress):
            model(alternator.source.batch(ALL[:20])[0])

    with pytest.raises(SettingsError, match="begin_epoch"):
        step()
    alternator.begin_epoch(0)
    for progress in (0, 0.5, 1):
        step(progress)
    for progress in (50, -0.1, float("nan")):
        with pytest.raises(SettingsError, match="step / steps"):
            step(progress)
    alternator.begin_epoch(0)  # once more, after it was broken off
    with pytest.raises(SettingsError, match="epoch 0 has not ended"):
        alternator.begin_epoch(1)
    alternator.end_epoch(1.0)
    with pytest.raises(SettingsError, match="begin_epoch"):
        step()
