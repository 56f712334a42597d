import inspect
from unittest import mock

import pytest
import torch
from torch import nn

from tests.toy import toy_data, toy_net, toy_tensors
from twostroke import fit
from twostroke.data import FlipShift
from twostroke.errors import DataError, SettingsError, SupportMismatchError
from twostroke.guidance import Guide, distill
from twostroke.training.listener import Listener
from twostroke.training.objective import Batch

takes_objectives = "objective" in inspect.signature(fit).parameters


@pytest.fixture
def teacher():
    return toy_net(1, norm=True).eval()


@pytest.fixture
def x():
    return toy_tensors(60)[0]


def asked(student, guide, images, **options):
    """What `distill` asks of `fit`: student, data, and options by name."""
    with mock.patch("twostroke.guidance.driver.fit") as called:
        distill(student, guide, images, **options)
    ((net, data), given) = called.call_args
    return net, data, given


def test_steps_are_met_by_repeating_few_images(teacher, x):
    guide = Guide.record(teacher, x)
    student = toy_net(2)
    net, data, given = asked(student, guide, x, steps=200, batch_size=20)
    assert net is student
    settings = given["settings"]
    assert settings.optimizer == "muon"
    steps = settings.epochs * -(-len(data.train) // settings.batch_size)
    assert steps == pytest.approx(200, rel=0.05)
    assert len(data.train) == 17 * 60
    assert len(data.test) == 60
    many = Guide.record(teacher, toy_data().train)
    assert asked(student, many, toy_data().train, epochs=3)[2]["settings"].epochs == 3


def test_its_data_and_objective_fit_each_other(teacher, x):
    guide = Guide.record(teacher, x)
    student = toy_net(2)
    test = toy_tensors(40, seed=1)
    _, data, given = asked(student, guide, x, steps=30, test=test)
    assert len(data.test) == 40
    indices = torch.arange(10)
    xs, ys = data.train.batch(indices, view=0, seed=0)
    assert torch.equal(ys, teacher(xs).argmax(1))
    value = given["objective"](student, Batch(xs, ys, indices, 0, 0.0))
    assert value.requires_grad


def test_the_listener_is_shown_the_pairs(teacher, x):
    notes = []

    class Ear(Listener):
        def note(self, text):
            notes.append(text)

    asked(toy_net(2), Guide.record(teacher, x), x, steps=10, listener=Ear())
    assert "2#0" in notes[0]


def test_bad_input_is_refused_before_any_work(teacher, x):
    guide = Guide.record(teacher, x)
    refused = [
        (toy_net(2), x.flip(0), {}, SupportMismatchError, "another order"),
        (toy_net(2), 5 * x, {}, SupportMismatchError, "preprocess"),
        (toy_net(2), [1, 2], {}, DataError, "list"),
        (toy_net(2, norm=True), x, {"batch_size": 1}, SettingsError, "batch of one"),
        (toy_net(2), x, {"steps": 0}, SettingsError, "steps"),
        (toy_net(2), x, {"kd": 0}, SettingsError, "last layer"),
        (toy_net(2), x, {"test": 3}, DataError, "test is"),
        (toy_net(2), x, {"speed": 3}, SettingsError, "speed"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(36, 4)),
            x,
            {},
            SupportMismatchError,
            "no ReLU",
        ),
    ]
    for student, images, options, error, text in refused:
        with (
            mock.patch("twostroke.guidance.driver.fit") as called,
            pytest.raises(error, match=text),
        ):
            distill(student, guide, images, **options)
        assert not called.called
    silent = Guide.record(teacher, x, outputs=False)
    with pytest.raises(SettingsError, match="no outputs and there are no labels"):
        distill(toy_net(2), silent, x)


@pytest.mark.skipif(not takes_objectives, reason="fit takes no objective yet")
def test_a_fresh_net_comes_to_answer_as_its_teacher(tmp_path):
    data = toy_data(augmentation=FlipShift(shift=1))
    teacher = toy_net(1, norm=True)
    fit(teacher, data, epochs=3, optimizer="muon")
    guide = Guide.record(teacher.eval(), data.train, views=2)
    student = toy_net(2, norm=True)
    result = distill(student, guide, data.train, test=data.test, steps=100, folder=tmp_path)
    assert result.ok
    x = data.test.batch(torch.arange(80))[0]
    assert (student(x).argmax(1) == teacher(x).argmax(1)).float().mean() > 0.9
