import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.toy import toy_data, toy_net, toy_tensors
from twostroke import record
from twostroke.data import Examples, FlipShift
from twostroke.errors import DataError, SettingsError
from twostroke.guidance import Guide, Guided, Pairs, guided, pair
from twostroke.guidance.lesson import Lesson
from twostroke.guidance.objective import distillation
from twostroke.training.objective import Batch


@pytest.fixture
def teacher():
    return toy_net(1, norm=True).eval()


def lesson_of(teacher, source, **options):
    guide = Guide.record(teacher, source, views=options.pop("views", 1))
    return guide, Lesson(source, guide, **options)


def batch_of(lesson, indices, progress=0.0):
    indices = torch.as_tensor(indices)
    x, y = lesson.batch(indices, view=0)
    return Batch(x, y, indices, 0, progress)


def test_it_is_the_sum_of_its_weighted_terms(teacher):
    guide, lesson = lesson_of(teacher, toy_data().train, labels=True)
    student = toy_net(2)
    batch = batch_of(lesson, [3, 50, 7])
    pairs = pair(student, guide.sites, batch.x)
    objective = Guided(guide, pairs, weight=5.0, kd=2.0, labels=0.5)
    told = guide.batch(batch.indices)
    with guided(student, told) as guidance:
        out = student(batch.x)
    expected = 5 * guidance.loss() + 2 * distillation(out, told.outputs, 4.0)
    expected = expected + 0.5 * F.cross_entropy(out, batch.y)
    torch.testing.assert_close(objective(student, batch), expected)
    assert list(objective.modules) == ["connectors"]


def test_distillation_is_hinton_s():
    own, other = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    p, q = (F.softmax(z / 3, 1) for z in (other, own))
    expected = 9 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(distillation(own, other, 3.0), expected)
    assert distillation(own, own, 3.0) == pytest.approx(0, abs=1e-12)


def test_the_margin_goes_evenly_from_one_end_to_the_other(teacher):
    guide, lesson = lesson_of(teacher, toy_data().train)
    student = toy_net(2)
    objective = Guided(guide, pair(student, guide.sites, torch.zeros(2, 1, 6, 6)), weight=2.0)
    for progress, margin in ((0.0, 1.0), (0.4, 0.8), (0.8, 0.6)):
        batch = batch_of(lesson, [1, 2, 3], progress)
        told = guide.batch(batch.indices)
        with guided(student, told, margin=margin) as guidance:
            out = student(batch.x)
        expected = 2 * guidance.loss() + distillation(out, told.outputs, 4.0)
        torch.testing.assert_close(objective(student, batch), expected)


def test_guidance_ends_after_its_share_of_the_run(teacher):
    guide, lesson = lesson_of(teacher, toy_data().train)
    student = toy_net(2)
    objective = Guided(guide, pair(student, guide.sites, torch.zeros(2, 1, 6, 6)), share=0.5)
    early, late = (batch_of(lesson, [1, 2, 3], progress) for progress in (0.49, 0.5))
    out = student(late.x)
    alone = distillation(out, guide.batch(late.indices).outputs, 4.0)
    torch.testing.assert_close(objective(student, late), alone)
    assert objective(student, early) > alone


def test_a_fresh_net_and_its_connectors_learn_by_it(teacher):
    x, _ = toy_tensors(80)
    guide = Guide.record(teacher, x)
    lesson = Lesson(Examples(x, torch.zeros(80).long(), mean=[0.0], std=[1.0]), guide)
    torch.manual_seed(3)
    student = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0),
        nn.Conv2d(4, 5, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(45, 4),
    )
    pairs = pair(student, guide.sites, x[:2])
    assert len(pairs.connectors) == 2
    objective = Guided(guide, pairs)
    parameters = [*student.parameters(), *objective.modules["connectors"].parameters()]
    before = [p.clone() for p in parameters]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    for step in range(50):
        optimizer.zero_grad()
        objective(student, batch_of(lesson, torch.randperm(80)[:40], step / 50)).backward()
        optimizer.step()
    assert not any(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))
    same = student.eval()(x).argmax(1) == teacher(x).argmax(1)
    assert same.float().mean() > 0.9


def test_what_would_teach_the_last_layer_nothing_is_refused(teacher):
    x, _ = toy_tensors(20)
    silent = Guide.record(teacher, x, outputs=False)
    with pytest.raises(SettingsError, match="no outputs and there are no labels"):
        Guided(silent, Pairs([]))
    assert Guided(silent, Pairs([]), labels=1.0).kd == 0
    with pytest.raises(SettingsError, match="kd=0"):
        Guided(Guide.record(teacher, x), Pairs([]), kd=0)
    for bad in (
        {"weight": -1},
        {"kd": float("nan")},
        {"temperature": 0},
        {"share": 1.5},
        {"margins": (1, 0)},
    ):
        with pytest.raises(SettingsError):
            Guided(Guide.record(teacher, x), Pairs([]), **bad)


# -- lessons ---------------------------------------------------------------------------------


@pytest.mark.parametrize("visits", [None, 100, 160, 400])
def test_examples_and_what_is_told_of_them_belong_together(teacher, visits):
    source = toy_data(augmentation=FlipShift()).train
    guide, lesson = lesson_of(teacher, source, views=3, visits=visits)
    objective = Guided(guide, Pairs([]), place=lesson.place)
    indices = torch.tensor([5, 65, len(lesson) - 1, 12])
    for view in range(4):
        x, y = lesson.batch(indices, view=view, seed=99)
        told = objective.told(Batch(x, y, indices, view, 0.0))
        assert told.support == record(teacher, x)
        torch.testing.assert_close(told.outputs, teacher(x))
        assert torch.equal(y, told.outputs.argmax(1))


@pytest.mark.parametrize("visits", [64, 160, 250])
def test_a_walk_meets_every_image_equally_often(teacher, visits):
    source = toy_data().train
    _, lesson = lesson_of(teacher, source, visits=visits)
    met = torch.cat([lesson.place(torch.arange(visits), view)[0] for view in range(16)])
    counts = torch.bincount(met, minlength=160)
    assert counts.max() - counts.min() <= 1


def test_labels_are_the_images_own_only_if_asked_for(teacher):
    source = toy_data().train
    guide, lesson = lesson_of(teacher, source, labels=True)
    indices = torch.tensor([1, 2, 3])
    assert torch.equal(lesson.batch(indices)[1], source.batch(indices)[1])
    assert not torch.equal(Lesson(source, guide).batch(indices)[1], source.batch(indices)[1])


def test_classes_that_do_not_belong_together_are_refused(teacher):
    guide, _ = lesson_of(teacher, toy_data().train)
    with pytest.raises(DataError, match="4 outputs and the test set 2 classes"):
        Lesson(toy_data().train, guide, classes=("cat", "dog"))
    with pytest.raises(DataError, match="must mean the same"):
        Lesson(toy_data().train, guide, labels=True, classes=("a", "b", "c", "d"))
