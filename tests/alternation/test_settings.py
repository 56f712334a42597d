import pytest

import twostroke as ts
from twostroke.errors import SettingsError


@pytest.mark.parametrize(
    "wrong",
    [
        {"warmup": -1},
        {"gap": 0},
        {"drift": 0.0},
        {"drift": 1.5},
        {"probe": 0},
        {"checks": 0},
        {"refresh": "daily"},
        {"store": "disk"},
        {"store": 3},
        {"penalty": -1.0},
        {"penalty": float("nan")},
        {"momentum": "lose"},
        {"rule": ts.BatchEnergy(density=0.5)},
        {"rule": ts.Energy(1.0), "refresh": "online"},
    ],
)
def test_instance_wise_settings_are_checked_at_construction(wrong):
    with pytest.raises(SettingsError):
        ts.InstanceWise(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"warmup": -1},
        {"density": 0.0},
        {"density": 1.1},
        {"density": 0.5, "rule": ts.MajorityVote()},
    ],
)
def test_batch_wise_settings_are_checked_at_construction(wrong):
    with pytest.raises(SettingsError):
        ts.BatchWise(**wrong)


@pytest.mark.parametrize("kind", [ts.InstanceWise, ts.BatchWise])
@pytest.mark.parametrize("wrong", [-1, 2.5, "x", None, True])
def test_a_warm_up_is_a_number_of_epochs_or_a_plateau(kind, wrong):
    with pytest.raises(SettingsError, match="whole number of epochs"):
        kind(warmup=wrong)
    assert kind(warmup=ts.Plateau()).warmup == ts.Plateau()


def test_batch_wise_default_rule_is_batch_energy_of_its_density():
    rule = ts.BatchWise(density=0.7).mask_rule()
    assert isinstance(rule, ts.BatchEnergy)
    assert rule.density == 0.7
    own = ts.MajorityVote()
    assert ts.BatchWise(rule=own).mask_rule() is own
