"""The paper's figures, and the schedules, as printed."""

import pytest
import torch

from twostroke.alternation import BatchWise, InstanceWise
from twostroke.models import create_model
from twostroke.reproduction import EXPERIMENTS, TASKS
from twostroke.reproduction.tasks import NINOptimizer, alternation, two_drops
from twostroke.support import MajorityVote


def test_every_line_has_a_task_and_every_task_is_used():
    used = {task for e in EXPERIMENTS.values() for task, _ in e.cells}
    assert used == set(TASKS)
    assert list(EXPERIMENTS) == [*(f"table{n}" for n in range(2, 9)), "figure1", "figure3"]


def test_some_figures_of_the_paper():
    printed = {
        (name, line.label): line.paper for name, e in EXPERIMENTS.items() for line in e.lines
    }
    assert printed["table2", "ALL-CNN-B, I-alternation + MaskT"] == 13.25
    assert printed["table3", "augmented: ALL-CNN-C (I-alternation)"] == 7.20
    assert printed["table4", "Fractional Pooling (12 tests)"] == 26.39
    assert printed["table5", "NIN + Dropout (I-alternation)"] == 0.47
    assert printed["table6", "DropConnect"] == 1.94
    assert printed["table7", "SVHN, B-alternation"] == 2.38
    assert printed["table7", "SVHN, majority vote"] is None
    assert printed["table8", "VGG-16, DSD (B-alternation), connections"] == 26.4
    assert sum(name == "table6" for name, _ in printed) == 8


def rates(task: str, scale: str = "full") -> list[float]:
    settings = TASKS[task].settings_at(scale)
    model = create_model(TASKS[task].model)
    optimizer = settings.make_optimizer(model.parameters())
    scheduler = settings.make_scheduler(optimizer, settings.epochs)  # a step an epoch
    found = []
    for _ in range(settings.epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_published_schedules_and_their_fifth():
    full = rates("cifar10-allcnn-c")
    assert len(full) == 350
    changes = [i for i in range(1, 350) if full[i] != full[i - 1]]
    assert changes == [200, 250, 300]
    assert full[-1] == pytest.approx(0.05 * 1e-3)
    short = rates("cifar10-allcnn-c", "short")
    assert len(short) == 70
    assert [i for i in range(1, 70) if short[i] != short[i - 1]] == [40, 50, 60]
    nin = rates("mnist-nin")
    assert len(nin) == 260
    assert [i for i in range(1, 260) if nin[i] != nin[i - 1]] == [200, 230]


def test_nin_learns_at_the_published_relative_rates():
    model = create_model("nin-svhn")
    optimizer = NINOptimizer(0.1, 1e-4)(model.parameters())
    by_parameter = {id(g["params"][0]): g for g in optimizer.param_groups}
    for name, p in model.named_parameters():
        group, last = by_parameter[id(p)], name.startswith("mlpconv3.4")
        assert group["lr"] == pytest.approx((0.2 if p.ndim == 1 else 0.1) * (0.1 if last else 1))
        assert group["weight_decay"] == (0 if p.ndim == 1 else 1e-4)
        assert group["momentum"] == 0.9
    assert isinstance(two_drops(optimizer, 26), torch.optim.lr_scheduler.LRScheduler)


def test_arms():
    strict = {"drift": 0.04, "checks": 16}
    assert alternation("instance", 350) == InstanceWise(warmup=10, gap=4, **strict)
    assert alternation("instance", 3) == InstanceWise(warmup=1, gap=1, **strict)
    assert alternation("batch", 350) == BatchWise(warmup=10)
    assert isinstance(alternation("vote", 350).rule, MajorityVote)
