"""Finding pictures: hidden folders, links, and a share that is set aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from twostroke.data.picture_files import Split, divided, find_pictures, find_splits
from twostroke.errors import DataError


def fill(folder: Path, names: list[str]) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return folder


def names(folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in find_pictures(folder)[0]]


def test_order_and_hidden_folders_at_any_depth(tmp_path: Path) -> None:
    fill(tmp_path, ["b.png", "a/y.jpg", "a/x.JPG", "a/deep/z.webp", "note.txt", ".b.png"])
    fill(tmp_path, [".ipynb_checkpoints/b.png", "a/.ipynb_checkpoints/y-checkpoint.jpg"])
    assert names(tmp_path) == ["b.png", "a/x.JPG", "a/y.jpg", "a/deep/z.webp"]
    assert find_pictures(tmp_path)[1] == {".txt": 1}


def test_links_to_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    fill(tmp_path, ["far/away/1.png", "far/2.png", "cat/0.png"])
    (tmp_path / "cat" / "linked").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "round").symlink_to(tmp_path / "cat")
    (tmp_path / "far" / "gone").symlink_to(tmp_path / "nowhere")
    found, others = find_pictures(tmp_path / "cat")
    assert [file.name for file in found] == ["0.png", "2.png", "1.png"]
    assert others == {"by links to folders read already": 1, "without a suffix": 1}


def test_a_class_may_be_a_link(tmp_path: Path) -> None:
    fill(tmp_path, ["far/1.png", "all/cat/0.png"])
    (tmp_path / "all" / "dog").symlink_to(tmp_path / "far")
    (split,) = find_splits(tmp_path / "all")
    assert (split.classes, split.labels) == (("cat", "dog"), [0, 1])


@pytest.fixture
def split(tmp_path: Path) -> Split:
    fill(tmp_path, [f"a/{k}.png" for k in range(40)] + [f"b/{k}.png" for k in range(10)])
    return find_splits(fill(tmp_path, ["c/0.png", "c/1.png"]))[0]


def test_a_share_of_each_class_is_set_aside(split: Split) -> None:
    train, test = divided(split, 0.2, seed=0)
    assert [test.labels.count(k) for k in range(3)] == [8, 2, 1]
    assert sorted(train.files + test.files) == sorted(split.files)
    assert [file.parent.name for file in train.files] == [train.classes[k] for k in train.labels]
    assert divided(split, 0.2, seed=0)[1].files == test.files
    assert divided(split, 0.2, seed=1)[1].files != test.files
    assert [divided(split, 0.999, 0)[0].labels.count(k) for k in range(3)] == [1, 1, 1]


def test_new_pictures_leave_the_test_set_nearly_as_it_was(split: Split) -> None:
    before = {file.name for file in divided(split, 0.2, 0)[1].files if file.parent.name == "a"}
    fill(split.folder, [f"a/new{k}.png" for k in range(5)])
    after = divided(find_splits(split.folder)[0], 0.2, 0)[1].files
    assert len(before - {file.name for file in after if file.parent.name == "a"}) <= 1


def test_a_class_of_one_picture_cannot_be_divided(split: Split) -> None:
    (split.folder / "c" / "1.png").unlink()
    with pytest.raises(DataError, match=r"/c has one picture, which cannot be divided"):
        divided(find_splits(split.folder)[0], 0.2, 0)
