"""Files that build a student again."""

import json
import sys

import pytest
import torch
from torch import nn

from tests.toy import toy_net
from twostroke.errors import RunFolderError, SettingsError, UnknownNameError
from twostroke.guidance.students import (
    Student,
    finish,
    load_student,
    narrow,
    prune,
    quantise,
    save_packed,
)
from twostroke.runs import read_tensors, save_tensors


@pytest.mark.parametrize(
    "name", ["allcnn-mini", "torchvision/resnet18", "torchvision/mobilenet_v2", "timm/regnetx_002"]
)
def test_a_narrow_student_is_loaded_without_torch_pruning(tmp_path, monkeypatch, name):
    recipe = Student(model=name, classes=5, in_channels=3, width=0.5)
    x = torch.randn(2, 3, 32, 32)
    student = narrow(recipe.build(), 0.5, x).eval()
    recipe.save(tmp_path / "s", student)
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    again = load_student(tmp_path / "s")
    assert type(again) is type(student)
    assert not again.training
    assert torch.equal(again(x), student(x))
    assert Student.read(tmp_path / "s") == recipe
    again.train()(x).sum().backward()
    assert all(p.grad is not None for p in again.parameters())


def test_narrow_of_few_bits_with_options(tmp_path):
    recipe = Student(
        model="allcnn-mini",
        classes=4,
        in_channels=1,
        options={"batch_norm": False},
        width=0.5,
        bits=1,
    )
    x = torch.randn(2, 1, 20, 20)
    student = quantise(narrow(recipe.build(), 0.5, x), 1)
    recipe.save(tmp_path / "s", student)
    again = load_student(tmp_path / "s")
    assert torch.equal(again(x), finish(student).eval()(x))
    assert type(again.features[2]) is nn.Conv2d


def test_a_pruned_student_keeps_its_zeros(tmp_path):
    recipe = Student(model="allcnn-mini", classes=4, in_channels=3, prune=0.9)
    student, masks = prune(recipe.build(), 0.9)
    recipe.save(tmp_path / "s", student)
    again = load_student(tmp_path / "s")
    for path, keep in masks.items():
        assert torch.equal(again.get_submodule(path).weight != 0, keep)


def test_a_model_that_is_not_made_from_the_recipe(tmp_path):
    recipe = Student(model="allcnn-mini", classes=4, in_channels=3)
    with pytest.raises(SettingsError, match="name the model, classes"):
        recipe.save(tmp_path / "s", toy_net())
    bare = Student(model="allcnn-mini", classes=4, in_channels=3, options={"batch_norm": False})
    with pytest.raises(SettingsError, match="name the model, classes"):
        recipe.save(tmp_path / "s", bare.build())
    assert not (tmp_path / "s").exists()


def test_files_that_are_something_else(tmp_path):
    path = tmp_path / "s"
    with pytest.raises(RunFolderError, match="no such file"):
        load_student(path)
    save_packed(path, toy_net())
    with pytest.raises(RunFolderError, match=r"Student.save did not write it"):
        load_student(path)


def altered(path, change):
    recipe = Student(model="allcnn-mini", classes=4, in_channels=3, width=0.5)
    recipe.save(path, narrow(recipe.build(), 0.5, torch.randn(1, 3, 32, 32)))
    tensors, metadata = read_tensors(path)
    about = json.loads(metadata["twostroke-student"])
    change(about)
    save_tensors(path, tensors, metadata | {"twostroke-student": json.dumps(about)})


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("sizes"),
        lambda about: about["recipe"].pop("model"),
        lambda about: about["recipe"].update(height=3),
        lambda about: about.update(sizes=3),
        lambda about: about["sizes"].update({"nowhere": {"out_channels": 3}}),
        lambda about: about["sizes"]["features.0"].update(forward=3),
        lambda about: about["sizes"]["features.0"].update(out_channels="many"),
        lambda about: about["recipe"].update(options={"batch_norm": False}),
    ],
)
def test_a_header_that_makes_no_sense(tmp_path, change):
    altered(tmp_path / "s", change)
    with pytest.raises(RunFolderError, match=r"makes no sense|does not fit|another model"):
        load_student(tmp_path / "s")


def test_a_model_that_is_not_known(tmp_path):
    altered(tmp_path / "s", lambda about: about["recipe"].update(model="allcnn-tiny"))
    with pytest.raises(UnknownNameError, match="allcnn-tiny"):
        load_student(tmp_path / "s")


def test_students_of_a_frozen_teacher_learn():
    teacher, x = toy_net().requires_grad_(False), torch.randn(1, 1, 6, 6)
    for student in (narrow(teacher, 0.5, x), prune(teacher, 0.5)[0], quantise(teacher, 1)):
        assert all(p.requires_grad for p in student.parameters())
    assert not any(p.requires_grad for p in teacher.parameters())
