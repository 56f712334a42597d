import math

import pytest
import torch

import twostroke as ts
from tests.toy import toy_net
from twostroke.errors import SettingsError
from twostroke.training.settings import USUAL


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"epochs": 2.5},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": -0.1},
        {"lr": math.nan},
        {"momentum": 1.0},
        {"weight_decay": -1e-4},
        {"warmup_share": 1.0},
        {"max_grad_norm": 0.0},
        {"precision": "fp8"},
        {"target_error": 101.0},
        {"optimizer": "sdg"},
        {"schedule": "one-cycel"},
    ],
)
def test_checked_at_construction(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        ts.Settings(**wrong)


def test_near_match_is_offered():
    with pytest.raises(SettingsError, match="did you mean 'sgd'"):
        ts.Settings(optimizer="sdg")
    with pytest.raises(SettingsError, match="did you mean 'batch_size'"):
        ts.Settings().but(batchsize=3)


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(SettingsError, match="'cuda:77' cannot be used here"):
        ts.Settings(device="cuda:77").torch_device()
    with pytest.raises(SettingsError, match="'gpu'"):
        ts.Settings(device="gpu").torch_device()
    assert ts.Settings(device="cpu").torch_device() == torch.device("cpu")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("one-cycle", [0, 1, 2 / 3, 1 / 3, 0]),
        ("cosine", [0, 1, 0.75, 0.25, 0]),
        ("step", [1, 1, 1, 0.01, 0.001]),
    ],
)
def test_schedules_at_quarters(schedule, expected):
    settings = ts.Settings(schedule=schedule, lr=0.5, warmup_share=0.25)
    optimizer = settings.make_optimizer(toy_net().parameters())
    scheduler = settings.make_scheduler(optimizer, 8)
    rates = []
    for _ in range(9):
        rates.append(optimizer.param_groups[0]["lr"] / 0.5)
        optimizer.step()
        scheduler.step()
    assert rates[::2] == pytest.approx(expected)


def test_any_optimiser_and_scheduler():
    settings = ts.Settings(
        optimizer=lambda p: torch.optim.RMSprop(p, lr=0.02),
        schedule=lambda o, steps: torch.optim.lr_scheduler.StepLR(o, steps),
    )
    optimizer = settings.make_optimizer(toy_net().parameters())
    assert isinstance(optimizer, torch.optim.RMSprop)
    assert settings.make_scheduler(optimizer, 5).step_size == 5


def test_the_fast_settings_leave_rate_and_decay_to_the_optimiser():
    assert (ts.FAST.optimizer, ts.FAST.ema_decay) == ("muon", 0.98)
    weight = [torch.nn.Parameter(torch.ones(2, 2))]
    for settings in (ts.FAST, ts.FAST.but(optimizer="adamw")):
        (group,) = settings.make_optimizer(weight).param_groups
        assert (group["lr"], group["weight_decay"]) == USUAL[settings.optimizer]


@pytest.mark.parametrize(("name", "lr", "decay"), [(n, *values) for n, values in USUAL.items()])
def test_each_optimizer_has_its_usual_rate_and_decay(name, lr, decay):
    weight = [torch.nn.Parameter(torch.ones(2, 2))]
    (group,) = ts.Settings(optimizer=name).make_optimizer(weight).param_groups
    assert (group["lr"], group["weight_decay"]) == (lr, decay)
    (group,) = (
        ts.Settings(lr=0.3)
        .but(optimizer=name, weight_decay=0.0)
        .make_optimizer(weight)
        .param_groups
    )
    assert (group["lr"], group["weight_decay"]) == (0.3, 0.0)


@pytest.mark.parametrize("fast", [True, False])
def test_auto_precision_is_what_there_are_instructions_for(fast, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    settings = ts.Settings(device="cpu", precision="auto")
    assert (settings.precision, settings.channels_last) == (
        ("bf16", True) if fast else ("fp32", False)
    )
    assert ts.Settings(device="cpu").precision == "fp32"
    # a run that goes on elsewhere keeps what was chosen
    assert settings.but(epochs=3).precision == settings.precision
