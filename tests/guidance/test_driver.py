from unittest import mock

import pytest
import torch
from torch import nn

from tests.toy import toy_data, toy_net, toy_tensors
from twostroke import fit
from twostroke.data import FlipShift
from twostroke.errors import DataError, RunFolderError, SettingsError, SupportMismatchError
from twostroke.guidance import Guide, distill
from twostroke.outcome import Status
from twostroke.training.listener import Listener
from twostroke.training.objective import Batch


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


@pytest.mark.parametrize("steps", [1, 7, 60, 125, 200])
@pytest.mark.parametrize("batch", [4, 20, 60])
def test_steps_are_met_exactly(teacher, x, steps, batch):
    guide = Guide.record(teacher, x)
    _, data, given = asked(toy_net(2), guide, x, steps=steps, batch_size=batch)
    assert given["settings"].epochs * len(data.train) == steps * batch


def test_steps_are_met_by_walking_through_the_images(teacher, x):
    guide = Guide.record(teacher, x)
    student = toy_net(2)
    net, data, given = asked(student, guide, x, steps=200, batch_size=20)
    assert net is student
    settings = given["settings"]
    assert settings.optimizer == "muon"
    assert settings.epochs * len(data.train) == 200 * 20
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


def narrow_net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Identity()),
        *(nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4)),
    )


def test_a_fresh_net_comes_to_answer_as_its_teacher():
    data = toy_data(augmentation=FlipShift(shift=1, flip=False))
    teacher = toy_net(1, norm=True)
    fit(teacher, data, epochs=3, batch_size=32, optimizer="muon")
    guide = Guide.record(teacher.eval(), data.train, views=2)
    student = toy_net(2, norm=True)
    result = distill(student, guide, data.train, test=data.test, steps=100, batch_size=40)
    assert result.ok
    x = data.test.batch(torch.arange(80))[0]
    assert (student(x).argmax(1) == teacher(x).argmax(1)).float().mean() > 0.8
    assert result.error < 30


def test_an_interrupted_run_goes_on_exactly_connectors_included(teacher, x, tmp_path):
    class Impatient(Listener):
        def step(self, where):
            if (where.epoch, where.step) == (1, 2):
                raise KeyboardInterrupt

    guide = Guide.record(teacher, x)
    options = {"steps": 12, "batch_size": 30}
    with mock.patch("twostroke.guidance.driver._STEPS", 4):
        whole = distill(narrow_net(2), guide, x, **options)
        first = distill(narrow_net(2), guide, x, folder=tmp_path, listener=Impatient(), **options)
        assert first.status == Status.INTERRUPTED
        rest = distill(narrow_net(2), guide, x, folder=tmp_path, resume=True, **options)
    assert len(rest.history) == 3
    for a, b in zip(whole.model.parameters(), rest.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_of_another_guide_is_refused(teacher, x, tmp_path):
    guide, other = Guide.record(teacher, x), Guide.record(toy_net(5).eval(), x)
    distill(narrow_net(2), guide, x, steps=3, folder=tmp_path)
    with pytest.raises(RunFolderError):
        distill(narrow_net(2), other, x, steps=3, folder=tmp_path, resume=True)


def test_the_guide_s_labels_serve_where_images_have_none(teacher, x):
    """Tested on its own images, the error is the share of answers that are not the teacher's."""
    student = toy_net(2, norm=True)
    result = distill(student, Guide.record(teacher, x), x, steps=40, weight=0.0)
    differs = (student(x).argmax(1) != teacher(x).argmax(1)).float().mean()
    assert result.error == pytest.approx(100 * float(differs))
