import math

import pytest
import torch

import twostroke as ts
from tests.toy import toy_net
from twostroke.errors import SettingsError
from twostroke.training.plan import Machine, forward_flops, largest_share, make_plan

RUN = {
    "examples": 1000,
    "processes": 4,
    "batch_size": 100,
    "epochs": 10,
    "warmup": 3,
    "gap": 2,
    "machine": Machine(),
}


def sites():
    return ts.sites(toy_net().eval(), torch.zeros(2, 1, 6, 6))


def test_bytes_are_those_of_a_real_store():
    plan = make_plan(sites(), 1, **RUN)
    support = ts.record(toy_net().eval(), torch.zeros(250, 1, 6, 6))
    assert plan.bytes_each == support.nbytes
    assert plan.bytes_in_all == 4 * support.nbytes
    assert plan.bytes_a_step * 10 == plan.bytes_in_all


@pytest.mark.parametrize(("warmup", "gap", "epochs"), [(3, 2, 10), (0, 1, 5), (2, 5, 9), (4, 2, 4)])
def test_strokes_are_those_of_a_real_schedule(warmup, gap, epochs):
    plan = make_plan(sites(), 1, **(RUN | {"warmup": warmup, "gap": gap, "epochs": epochs}))
    data = ts.data.Examples(torch.rand(8, 1, 6, 6), torch.arange(8) % 4)
    kind = ts.InstanceWise(warmup=warmup, gap=gap, drift=None)
    alternator = kind.start(toy_net(), data)
    for epoch in range(epochs):
        alternator.begin_epoch(epoch)
        alternator.end_epoch(1.0)
    assert plan.strokes == alternator.round
    assert plan.most_strokes == epochs - warmup
    assert plan.extra_work == pytest.approx(plan.strokes / epochs / 3)


@pytest.mark.parametrize(
    ("machine", "kind"),
    [
        ({"device_memory": 3e-5}, "device"),  # 250 examples of 36 bytes
        ({"device_memory": 1.7e-5, "host_memory": 7.3e-5}, "host"),
        ({"device_memory": 1.7e-5, "host_memory": 7.1e-5}, "file"),
        ({"device_memory": 1.7e-5, "host_memory": 3.7e-5, "processes": 2}, "host"),
    ],
)
def test_the_first_store_with_room_is_chosen(machine, kind):
    assert sum(s.nbytes for s in sites()) == 36
    plan = make_plan(sites(), 10**6, **(RUN | {"machine": Machine(**machine)}))
    assert plan.kind == kind
    assert (
        list(plan.waits)
        == {
            "device": ["computing"],
            "host": ["computing", "link"],
            "file": ["computing", "disk", "link"],
        }[kind]
    )


def test_seconds_are_bytes_over_rates():
    machine = Machine(link=2.0, disk=0.5, tflops=0.001, processes=2)
    plan = make_plan(sites(), 1000, **(RUN | {"machine": machine}))
    share = plan.share
    assert plan.seconds("link") == pytest.approx(share * 36 / 2e9)
    assert plan.seconds("disk") == pytest.approx(share * 36 / 0.25e9)
    assert plan.seconds("computing") == pytest.approx(share * 3000 / 1e9)


def test_the_busiest_process_has_what_random_batches_give_it():
    assert largest_share(64, 1) == 1.0
    # of two processes: mean of |heads - tails| of 100 throws is about sqrt(200 / pi)
    assert largest_share(100, 2) == pytest.approx(1 + math.sqrt(200 / math.pi) / 100, rel=0.01)


def test_operations_of_a_network():
    x = torch.zeros(1, 1, 6, 6)
    by_hand = 2 * (36 * 6 * 9 + 9 * 8 * 6 * 9 + 72 * 4)
    assert forward_flops(toy_net().eval(), x) == by_hand


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"examples": 0}, "--examples"),
        ({"gap": 0}, "--gap"),
        ({"warmup": -1}, "--warmup"),
        ({"batch_size": 3}, "at least the 4 processes"),
        ({"batch_size": 2000}, "at most the 1,000"),
    ],
)
def test_numbers_that_make_no_run(change, message):
    with pytest.raises(SettingsError, match=message):
        make_plan(sites(), 1, **(RUN | change))
    with pytest.raises(SettingsError, match="disk must be above 0"):
        Machine(disk=0)
