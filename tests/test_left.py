"""Public calls leave what is global in the process as it was: generators, flags, threads, warnings, signals."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import twostroke as ts
from tests.everything import everything, nothing_global_changed
from tests.toy import toy_data, toy_net, toy_record, toy_tensors
from twostroke.guidance.students import Student, load_student, narrow
from twostroke.models import create_model
from twostroke.report import draw_curves
from twostroke.reproduction import reproduce
from twostroke.runs import History
from twostroke.sparsity import Recipe, dense_sparse_dense
from twostroke.training import MASK_AT_TEST

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 40, "lr": 0.05, "probe": 40}


class Draws(nn.Module):
    """Draws from every generator, in training and in evaluation."""

    def forward(self, x):
        scale = 1 + 1e-3 * (random.random() + np.random.rand())
        return x * scale + 1e-3 * torch.randn(1)


def drawing() -> nn.Module:
    return nn.Sequential(Draws(), toy_net(norm=True, dropout=0.3))


# each makes what it needs, and returns the call


def recorded(tmp_path):
    model, (x, _) = drawing().train(), toy_tensors(8)
    return lambda: ts.record(model, x)


def fitted(tmp_path):
    kind = ts.InstanceWise(warmup=1, store="file")
    model, data, folder = drawing(), toy_data(), tmp_path / "run"
    return lambda: ts.fit(model, data, folder=folder, alternation=kind, ema_decay=0.9, **QUICK)


def from_items(tmp_path):
    items, model = torch.utils.data.TensorDataset(*toy_tensors(40)), drawing()
    return lambda: ts.fit(model, (items, items), **QUICK)


def refused(tmp_path):
    def call():
        with pytest.raises(ts.errors.SettingsError):
            ts.fit(model, data, **(QUICK | {"batch_size": 5000}))

    model, data = drawing(), toy_data()
    return call


def pruned(tmp_path):
    phases = Recipe(epochs=(1, 1, 1), batch_size=40)
    model, data = drawing(), toy_data()
    return lambda: dense_sparse_dense(model, data, phases=phases, mask="batch-connections")


def distilled(tmp_path):
    def call():
        guide = ts.Guide.record(teacher, x)
        ts.distill(student, guide, x, steps=3, batch_size=20)

    x, _ = toy_tensors(80)
    teacher, student = drawing().eval(), toy_net(1, dropout=0.1)
    return call


def students(tmp_path):
    def call():
        net = narrow(wide, 0.5, torch.zeros(1, 1, 12, 12), fresh=True)
        student.save(tmp_path / "student", net)
        load_student(tmp_path / "student")

    student = Student(model="allcnn-mini", classes=4, in_channels=1, width=0.5)
    wide = student.build()
    return call


def drawn(tmp_path):
    history = History([toy_record()])
    return lambda: draw_curves({"a run": history}, tmp_path / "curves.png", title="Curves")


def evaluated(tmp_path):
    model, data = drawing(), toy_data()
    return lambda: ts.evaluate(model, data.test, rule=MASK_AT_TEST)


def compiled(tmp_path):
    model, (x, _) = toy_net(), toy_tensors(8)
    support = ts.record(model, x)
    held = ts.compile_held(model, backend="eager")
    return lambda: held(support, x)


def reproduced(tmp_path):
    def call():
        with pytest.raises(ts.errors.UnknownNameError):
            reproduce("table2", out=tmp_path, data={"mnist": "mnist-12k"}, only=["nothing"])

    return call


CALLS: list[Callable[[Any], Callable[[], Any]]] = [
    *(
        recorded,
        fitted,
        from_items,
        refused,
        pruned,
        distilled,
        students,
        drawn,
        evaluated,
        compiled,
    ),
    reproduced,
]


@pytest.fixture(scope="module", autouse=True)
def _imported():
    """What other packages set when they are imported is theirs, such as a filter of warnings."""
    ts.record(toy_net(), toy_tensors(2)[0])


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_a_call_leaves_what_is_global_as_it_was(call, tmp_path):
    prepared = call(tmp_path)
    with nothing_global_changed():
        prepared()


def test_the_snapshot_sees_a_draw():
    for draw in (lambda: torch.rand(1), np.random.rand, random.random):
        before = everything()
        draw()
        assert everything() != before


def test_nets_made_and_trained_one_after_the_other_differ():
    """An ensemble: each begins with weights of its own."""
    torch.manual_seed(0)
    nets = []
    for _ in range(3):
        nets.append(create_model("allcnn-mini", classes=4, in_channels=1))
        images, labels = toy_tensors(40)
        ts.fit(nets[-1], (images.repeat(1, 1, 2, 2), labels), **QUICK)
    weights = [next(iter(net.parameters())) for net in nets]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
