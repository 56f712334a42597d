import pytest
import torch

import twostroke as ts
from tests.toy import toy_data, toy_net
from twostroke.errors import RunFolderError

OPTIONS = {"batch_size": 40, "probe": 20, "alternation": ts.InstanceWise(warmup=1, gap=1)}


@pytest.fixture
def folder(tmp_path):
    ts.fit(toy_net(), toy_data(), epochs=2, folder=tmp_path, identity={"lr": 0.1}, **OPTIONS)
    return tmp_path


def resume(folder, **changes):
    model = toy_net(seed=5)
    return ts.fit(
        model,
        toy_data(),
        epochs=3,
        folder=folder,
        resume=True,
        **(OPTIONS | {"identity": {"lr": 0.1}} | changes),
    )


def test_only_the_last_round_stays_and_nothing_partial(folder):
    resume(folder)
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["checkpoint.safetensors", "support-2.safetensors"]


def test_a_finished_run_has_nothing_left_to_do(folder):
    result = resume(folder)
    again = resume(folder)
    assert len(again.history) == 3
    assert again.history.epochs == result.history.epochs


def test_other_settings_are_refused_by_name(folder):
    with pytest.raises(RunFolderError, match=r"lr = 0\.1, not 0\.2"):
        resume(folder, identity={"lr": 0.2})


def test_a_new_run_leaves_the_checkpoint_of_another_alone(folder):
    before = (folder / "checkpoint.safetensors").read_bytes()
    with pytest.raises(RunFolderError, match="resume=True"):
        ts.fit(toy_net(), toy_data(), epochs=1, folder=folder, **OPTIONS)
    assert (folder / "checkpoint.safetensors").read_bytes() == before


def test_what_a_run_of_several_processes_left_before_its_first_checkpoint_is_cleared(tmp_path):
    stored, kept = tmp_path / "process-1-of-2", tmp_path / "process-2-of-2"
    for process in (stored, kept):
        process.mkdir()
        (process / "support-1.store").touch()
    (kept / "mine.txt").touch()
    ts.RunFolder(tmp_path).clear()
    assert not stored.exists()
    assert [p.name for p in kept.iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="run cannot be made"):
        ts.fit(toy_net(), toy_data(), epochs=1, folder=tmp_path / "file" / "run", **OPTIONS)


def test_nothing_to_resume(tmp_path):
    with pytest.raises(RunFolderError, match="no checkpoint"):
        resume(tmp_path)


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "support-1.safetensors"])
@pytest.mark.parametrize("damage", ["truncate", "header", "empty", "text"])
def test_damage_is_named_and_the_model_is_untouched(folder, name, damage):
    path = folder / name
    raw = bytearray(path.read_bytes())
    if damage == "truncate":
        raw = raw[:-10]
    elif damage == "header":
        raw[20] ^= 0xFF
    else:
        raw = bytearray(b"" if damage == "empty" else b"weights, honestly" * 9)
    path.write_bytes(raw)
    model = toy_net(seed=5)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(RunFolderError, match=name):
        ts.fit(
            model, toy_data(), epochs=3, folder=folder, resume=True, identity={"lr": 0.1}, **OPTIONS
        )
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_disk_that_is_full_leaves_the_last_checkpoint(folder, monkeypatch):
    from twostroke.runs import files

    before = (folder / "checkpoint.safetensors").read_bytes()

    def full(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(RunFolderError, match="No space left"):
        resume(folder)
    assert (folder / "checkpoint.safetensors").read_bytes() == before
    assert not list(folder.glob("*.partial"))
