"""Every table and figure runs on toy data; what is finished is kept; nothing is replaced unasked."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.toy import toy_tensors
from twostroke.alternation.fingerprint import data_fingerprint
from twostroke.data import from_tensors
from twostroke.errors import (
    DataError,
    DeadLayerError,
    RunFolderError,
    SettingsError,
    UnknownNameError,
)
from twostroke.reproduction import EXPERIMENTS, Stopped, Watcher, cells, driver, reproduce, tasks
from twostroke.runs import CHECKPOINT

pytestmark = pytest.mark.usefixtures("small_nets")


class Seen(Watcher):
    """Notes what it is told, and stops in an epoch that is asked for."""

    def __init__(self, stop=None):
        self.begun, self.kept, self.epochs, self.stop = [], [], 0, stop
        self.left, self.phases = [], []

    def begin(self, number, count, cell, kept, left):
        (self.kept if kept else self.begun).append(cell.label)
        self.left.append(left)
        assert 1 <= number <= count

    def part(self, name):
        if name not in self.phases:
            self.phases.append(name)

    def epoch(self, record):
        self.epochs += 1
        if self.epochs == self.stop:
            raise KeyboardInterrupt


# one or two tasks of each: the others run the same code
ONLY = {
    "table2": ["cifar10-allcnn-a"],
    "table7": ["svhn", "cifar10-aug"],
    "table8": ["imagenet-vgg16"],
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_writes_its_page(name, digits, tmp_path):
    only = ONLY.get(name, [])
    done = reproduce(name, out=tmp_path, data=digits, only=only)
    page = (tmp_path / f"{name}.md").read_text()
    document = json.loads((tmp_path / f"{name}.json").read_text())
    assert "a subset, 60 + 40 of 120 + 120 images" in page
    assert "instead of" in page
    assert "**smoke**" in page
    assert all(cell["versions"]["torch"] and cell["history"] for cell in document["cells"])
    assert len(document["cells"]) == sum(map(len, done.results.values()))
    ours = [row for row in document["rows"] if row["ours"] is not None]
    assert ours
    assert all(row["n"] == 1 for row in ours)
    pictures = [file for file in done.files if file.suffix == ".png"]
    assert len(pictures) == len({task for task, _ in done.results})
    assert all(file.read_bytes()[:4] == b"\x89PNG" for file in pictures)
    if name == "table8":
        pruned = [r["sparsity"] for r in document["rows"] if "connections" in r["label"]]
        assert all(0 < share < 1 for share in pruned)
    if name == "table2":
        masked = next(r for r in document["rows"] if "MaskT" in r["label"])
        run_ = done.results["cifar10-allcnn-a", "instance"][0]
        assert masked["ours"] == run_["numbers"]["mask_at_test"]
    # nothing is left to do: the second time all cells are kept
    seen = Seen()
    reproduce(name, out=tmp_path, data=digits, only=only, watcher=seen)
    assert seen.begun == []
    assert seen.epochs == 0


def test_stops_and_goes_on_by_cells_and_within_a_cell(digits, tmp_path):
    options = {"scale": "short", "seeds": 2, "data": digits}
    small = replace(tasks.TASKS["mnist-nin"], epochs=15)  # 3 in short
    tasks.TASKS["mnist-nin"] = small
    whole = reproduce("figure1", out=tmp_path / "whole", **options)
    with pytest.raises(Stopped) as stop:
        reproduce("figure1", out=tmp_path / "a", watcher=Seen(stop=5), **options)
    page, numbers, *_ = stop.value.files
    assert "**not finished**: 1 of 4 runs" in page.read_text()
    assert len(json.loads(numbers.read_text())["cells"]) == 1
    kept = list((tmp_path / "a" / "cells").iterdir())
    assert len([f for f in kept if f.suffix == ".json"]) == 1
    assert len([f for f in kept if f.suffix == ".unfinished"]) == 1
    seen = Seen()
    again = reproduce("figure1", out=tmp_path / "a", watcher=seen, **options)
    assert seen.kept == ["mnist-nin sgd 0"]
    assert seen.left == [3, 3, 2, 1]
    assert seen.epochs == 7  # of 12: three are in the cell, two in the checkpoint
    assert not list((tmp_path / "a" / "cells").glob("*.unfinished"))
    for key, runs in whole.results.items():
        errors = [r["history"][-1]["loss_live"] for r in runs]
        assert [r["history"][-1]["loss_live"] for r in again.results[key]] == errors
    assert {r["seed"] for r in again.results["mnist-nin", "sgd"]} == {0, 1}
    assert "not finished" not in page.read_text()
    # an interruption while most runs are kept from before loses none of them on the page
    next((tmp_path / "a" / "cells").glob("mnist-nin-instance-*-seed0-*.json")).unlink()
    with pytest.raises(Stopped):
        reproduce("figure1", out=tmp_path / "a", watcher=Seen(stop=1), **options)
    assert "**not finished**: 3 of 4 runs" in page.read_text()
    reproduce("figure1", out=tmp_path / "a", **options)
    # another table finds the runs that it shares
    seen = Seen()
    reproduce("table5", out=tmp_path / "a", watcher=seen, **options)
    assert seen.begun == []


def test_folders_of_pictures_serve_table_8(tmp_path):
    x, y = toy_tensors(40, seed=0)
    for split in ("train", "val"):
        for i, (image, label) in enumerate(zip(x, y.tolist(), strict=True)):
            folder = tmp_path / "pictures" / split / f"n0{label}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = ((image[0] + 3) * 40).clamp(0, 255).byte().repeat_interleave(3, 0)
            pixels = pixels.repeat_interleave(3, 1).numpy()
            Image.fromarray(np.stack([pixels] * 3, -1)).save(folder / f"{i}.png")
    done = reproduce(
        "table8",
        out=tmp_path / "out",
        data={"imagenet": f"folder:{tmp_path / 'pictures'}"},
        only=["imagenet-resnet18"],
    )
    assert {task for task, _ in done.results} == {"imagenet-resnet18"}
    page = (tmp_path / "out" / "table8.md").read_text()
    assert "tested on val" in page
    assert str(tmp_path) not in page.split("command")[0]
    assert "GoogLeNet" not in page


def test_what_was_left_out_is_told_and_other_methods_stay(digits, tmp_path):
    reproduce("table3", out=tmp_path, data=digits, only=["cifar10-allcnn"])
    page = (tmp_path / "table3.md").read_text()
    assert "left out (--only): cifar10-aug-allcnn-c" in page
    assert "| Maxout | 11.68 |" in page


def test_the_published_data_are_told_by_their_size(digits, tmp_path, monkeypatch):
    def named(name, **options):
        return replace(load(digits, **options), name=name)

    load = driver.load
    monkeypatch.setattr(driver, "load", named)
    options = {"scale": "short", "seeds": 1}
    monkeypatch.setitem(tasks.TASKS, "mnist-nin", replace(tasks.TASKS["mnist-nin"], epochs=5))
    reproduce("table5", out=tmp_path / "a", **options)
    rows = json.loads((tmp_path / "a" / "table5.json").read_text())["rows"]
    assert {row["remark"] for row in rows if row["n"]} == {"subset"}
    monkeypatch.setitem(tasks.PUBLISHED, "mnist", (120, 120, 4))
    reproduce("table5", out=tmp_path / "b", **options)
    rows = json.loads((tmp_path / "b" / "table5.json").read_text())["rows"]
    assert {row["remark"] for row in rows if row["n"]} == {""}


def test_other_images_under_the_same_name_are_other_cells(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"out": tmp_path, "data": "npz:toys.npz"}
    for seed in (0, 1):
        x, y = toy_tensors(120, seed=seed)
        images = ((x + 3) * 40).clamp(0, 255).byte().numpy()
        np.savez("toys.npz", x_train=images, y_train=y, x_test=images, y_test=y)
        seen = Seen()
        reproduce("figure1", watcher=seen, **options)
        assert len(seen.begun) == 2
    assert "(npz:toys.npz, instead of mnist)" in (tmp_path / "figure1.md").read_text()


def test_pages_name_the_machines_that_trained(digits, tmp_path):
    done = reproduce("figure1", out=tmp_path, data=digits)
    for runs in done.results.values():
        assert runs[0]["versions"]["gpu"] is None or runs[0]["device"] != "cpu"
    for file in (tmp_path / "cells").glob("*sgd*.json"):
        result = json.loads(file.read_text())
        result["device"] = "cuda"
        result["versions"] |= {"gpu": "Some GPU", "cpu_cores": 77}
        file.write_text(json.dumps(result))
    reproduce("figure1", out=tmp_path, data=digits)
    page = (tmp_path / "figure1.md").read_text()
    assert "trained on cuda (Some GPU, 77 cores" in page
    assert "trained on cpu (" in page


def test_masks_of_units_through_table_8(digits, tmp_path, monkeypatch):
    spec = replace(tasks.TASKS["imagenet-resnet18"], model="allcnn-mini")
    monkeypatch.setitem(tasks.TASKS, "imagenet-resnet18", spec)
    real = cells.Cell.plan

    def brief(self):
        return replace(real.fget(self), epochs=(1.0, 1.0, 1.0), lrs=(0.01, 0.01, 0.01))

    monkeypatch.setattr(cells.Cell, "plan", property(brief))
    seen = Seen()
    reproduce(
        "table8",
        out=tmp_path,
        scale="short",
        seeds=1,
        data=digits,
        only=["imagenet-resnet18"],
        watcher=seen,
    )
    assert seen.phases == ["dense", "sparse", "dense again"]
    rows = json.loads((tmp_path / "table8.json").read_text())["rows"]
    units = [row for row in rows if "units" in row["label"]]
    assert len(units) == 2
    assert all(0 < row["units_off"] < 1 for row in units)
    page = (tmp_path / "table8.md").read_text()
    assert "units off %" in page
    assert "without the dense phase" in page
    assert "augmented by flip-shift instead of resized-crop" in page
    small = tmp_path / "smoke"
    reproduce("table8", out=small, data=digits, only=["imagenet-resnet18"])
    assert "masks of units are not trained" in (small / "table8.md").read_text()


def test_nothing_stands_in_unasked(tmp_path, monkeypatch):
    def missing(name, **_):
        raise DataError(f"{name} is not there")

    monkeypatch.setattr(driver, "load", missing)
    with pytest.raises(
        DataError, match=r"(?s)mnist is not there.*--data mnist=mnist-12k; the tables"
    ):
        reproduce("table5", out=tmp_path)
    with pytest.raises(DataError, match="--data imagenet=folder:PATH"):
        reproduce("table8", out=tmp_path)
    with pytest.raises(DataError, match=r"^npz:mine\.npz is not there$"):  # which was asked for
        reproduce("table5", out=tmp_path, data="npz:mine.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"name": "table9"}, UnknownNameError, "'table9', did you mean 'table8'.*table2, table3"),
        ({"scale": "tiny"}, SettingsError, "scale is one of smoke, short, full"),
        ({"seeds": 0}, SettingsError, "seeds is a number"),
        ({"only": ["cifar"]}, UnknownNameError, "no task that begins with 'cifar'"),
        ({"only": [""]}, UnknownNameError, "no task that begins with ''"),
        ({"data": {"cifar10": "x"}}, UnknownNameError, "no data set 'cifar10' to replace"),
    ],
)
def test_bad_requests(tmp_path, options, error, text):
    with pytest.raises(error, match=text):
        reproduce(**{"name": "table5", "out": tmp_path} | options)


def test_a_damaged_cell_is_named(digits, tmp_path):
    reproduce("figure1", out=tmp_path, data=digits)
    file = next((tmp_path / "cells").glob("*sgd*.json"))
    file.write_text(file.read_text()[:100])
    with pytest.raises(RunFolderError, match=r"sgd.*is no result of a run.*remove it"):
        reproduce("figure1", out=tmp_path, data=digits)


def test_a_damaged_checkpoint_of_a_run_is_named_with_its_folder(digits, tmp_path):
    options = {"scale": "short", "seeds": 1, "data": digits, "out": tmp_path}
    tasks.TASKS["mnist-nin"] = replace(tasks.TASKS["mnist-nin"], epochs=15)  # 3 in short
    with pytest.raises(Stopped):
        reproduce("figure1", watcher=Seen(stop=2), **options)
    (begun,) = (tmp_path / "cells").glob("*.unfinished")
    (begun / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(RunFolderError, match=rf"{begun}; without that folder it begins again"):
        reproduce("figure1", **options)
    shutil.rmtree(begun)
    reproduce("figure1", **options)


def test_runs_of_other_settings_are_other_cells(digits, tmp_path):
    reproduce("figure1", out=tmp_path, data=digits)
    names = {f.name for f in (tmp_path / "cells").iterdir()}
    tasks.TASKS["mnist-nin"] = replace(tasks.TASKS["mnist-nin"], smoke=(50, 40))
    reproduce("figure1", out=tmp_path, data=digits)
    assert {f.name for f in (tmp_path / "cells").iterdir()} > names


def test_pages_say_how_it_was_computed(digits, tmp_path):
    done = reproduce(
        "figure1", out=tmp_path, data=digits, precision="bf16", channels_last=True, only=["mnist"]
    )
    (run_,) = done.results["mnist-nin", "instance"]
    assert run_["identity"]["settings"]["precision"] == "bf16"
    assert "bf16, channels-last" in (tmp_path / "figure1.md").read_text()
    with pytest.raises(SettingsError, match="precision"):
        reproduce("figure1", out=tmp_path, data=digits, precision="fp8")


def test_a_run_that_diverges_is_told_and_left_out(digits, tmp_path, monkeypatch):
    real = cells.fit

    def fit(*args, **options):
        result = real(*args, **options)
        return replace(result, status=cells.Status.DIVERGED, detail="in epoch 2")

    monkeypatch.setattr(cells, "fit", fit)
    reproduce("figure1", out=tmp_path, data=digits)
    row = json.loads((tmp_path / "figure1.json").read_text())["rows"][0]
    assert row["ours"] is None
    assert row["diverged"] == 1
    assert "1 diverged" in (tmp_path / "figure1.md").read_text()


def test_masks_need_the_weights_of_the_dense_phase(digits, tmp_path, monkeypatch):
    options = {"out": tmp_path, "data": digits, "only": ["imagenet-resnet18"]}
    reproduce("table8", **options)
    for file in (tmp_path / "cells").iterdir():
        if "-none-" in file.name:
            file.unlink()
        elif file.is_dir():
            weights = file / "model.safetensors"
    for damage in (lambda: weights.write_bytes(b"damaged"), weights.unlink):
        damage()
        with pytest.raises(
            RunFolderError,
            match=r"model.safetensors.*: remove .*weights and .*dense.*json to train",
        ):
            reproduce("table8", **options)
    dense = next((tmp_path / "cells").glob("*dense*.json"))
    dense.write_text(dense.read_text().replace('"FINISHED"', '"DIVERGED"'))
    done = reproduce("table8", **options)
    assert done.results["imagenet-resnet18", "none"][0]["status"] == "DIVERGED"


def test_a_layer_that_carries_nothing_ends_its_arm_and_no_other(digits, tmp_path, monkeypatch):
    real = cells.dense_sparse_dense

    def sparse(*args, mask, **options):
        if mask == "magnitude":
            raise DeadLayerError("features.3 carries nothing")
        return real(*args, mask=mask, **options)

    monkeypatch.setattr(cells, "dense_sparse_dense", sparse)
    done = reproduce("table8", out=tmp_path, data=digits, only=["imagenet-resnet18"])
    (run,) = done.results["imagenet-resnet18", "magnitude"]
    assert run["status"] == "DIVERGED"
    assert "features.3 carries nothing" in run["detail"]
    assert done.results["imagenet-resnet18", "none"][0]["status"] == "FINISHED"


def test_other_labels_or_images_are_other_runs():
    x, y = toy_tensors(200)
    told = set()
    for change in (None, "label", "image"):  # of examples that no sample meets
        if change == "label":
            y[101] = (y[101] + 1) % 4
        if change == "image":
            x[103, 0, 0, 0] += 1
        told.add(data_fingerprint(from_tensors(x, y, x, y).train, 0, whole=True))
    assert len(told) == 3


def test_a_page_of_another_scale_is_not_overwritten(digits, tmp_path):
    reproduce("figure1", out=tmp_path, data=digits)
    page = (tmp_path / "figure1.md").read_text()
    with pytest.raises(RunFolderError, match=r"figure1\.json is of scale smoke.*another --out"):
        reproduce("figure1", out=tmp_path, data=digits, scale="short")
    assert (tmp_path / "figure1.md").read_text() == page


def test_only_takes_whole_parts_of_a_name():
    tasks_of = lambda only: {t for t, _ in driver._experiment("table7", only).cells}  # noqa: E731
    assert tasks_of(["cifar10"]) == {"cifar10-allcnn-c", "cifar10-aug-allcnn-c"}
    assert tasks_of(["cifar100", "mnist"]) == {"cifar100-allcnn-c", "mnist-nin"}
