from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from twostroke.data import Examples, FlipShift, default_root, list_data, load
from twostroke.errors import SettingsError, UnknownNameError


def test_list_names_everything_that_load_knows() -> None:
    assert list(list_data()) == [
        "mnist-12k", "mnist", "fashion-mnist", "cifar10", "cifar100", "svhn", "svhn-extra",
        "imagenet", "npz:PATH", "folder:PATH",
    ]  # fmt: skip
    assert all(list_data().values())


@pytest.mark.parametrize(
    ("name", "near"),
    [("mnist12k", "mnist-12k"), ("CIFAR-10", "cifar10"), ("fashion_mnist", "fashion-mnist")],
)
def test_unknown_names_come_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=rf"did you mean .*\b{near}\b.*twostroke train"):
        load(name)


def test_a_bare_path_is_told_its_prefix(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=f"write folder:{tmp_path}"):
        load(str(tmp_path))
    with pytest.raises(UnknownNameError, match=r"write npz:some.npz"):
        load("some.npz")


def test_nothing_near_is_not_guessed() -> None:
    with pytest.raises(UnknownNameError) as caught:
        load("zzzz")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", ["npz", "npz:", "folder", "folder:"])
def test_a_missing_path_is_asked_for(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name!r} needs a path, as in {name.rstrip(':')}:"):
        load(name)


def test_a_path_where_none_belongs_is_refused() -> None:
    with pytest.raises(SettingsError, match="'mnist' takes no path"):
        load("mnist:/somewhere")


def test_augmentation_belongs_to_the_training_set() -> None:
    data = load("mnist-12k", augmentation="shift")
    assert isinstance(data.train, Examples)
    assert isinstance(data.test, Examples)
    assert data.train.augmentation == FlipShift(flip=False)
    assert data.test.augmentation is None
    first = torch.tensor([0])
    plain, _ = data.train.batch(first)
    view, _ = data.train.batch(first, view=1)
    assert not torch.equal(plain, view)
    with pytest.raises(UnknownNameError, match="no augmentation 'twirl'"):
        load("mnist-12k", augmentation="twirl")
    with pytest.raises(SettingsError, match="resized-crop is not for it: take flip-shift"):
        load("mnist-12k", augmentation="resized-crop")
    own = load("mnist-12k", augmentation=FlipShift(shift=2)).train
    assert own.augmentation == FlipShift(shift=2)  # type: ignore[attr-defined]


def test_default_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOSTROKE_DATA", "~/elsewhere")
    assert default_root() == Path.home() / "elsewhere"
    monkeypatch.delenv("TWOSTROKE_DATA")
    assert default_root() == Path.home() / ".cache" / "twostroke"


def test_importing_the_package_loads_neither_torchvision_nor_pillow() -> None:
    code = "import sys, twostroke.data; print(sorted({'torchvision', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
