"""Full disks, lost and altered files: named in words, and the last good state stays."""

import json
import os
import resource
import shutil

import pytest
import torch

from tests.listening import told as listening
from twostroke.errors import RunFolderError, StoreError, SupportFileError
from twostroke.runs.checkpoint import Checkpoint
from twostroke.runs.files import read_tensors, save_tensors
from twostroke.runs.typed import pack
from twostroke.store import rounds

from .faults import in_a_child, run, told

FILES = ("checkpoint.safetensors", "support-2.store")


@pytest.fixture(scope="module")
def after_three(tmp_path_factory):
    """What a run of seven epochs leaves that is stopped after the third, for either kind of store."""

    def stops(record):
        if record.epoch == 3:
            raise KeyboardInterrupt

    folders = {}
    for store in ("file", "host"):
        folders[store] = tmp_path_factory.mktemp(store)
        run(folders[store], refresh="sweep", store=store, listener=listening(epoch=stops))
    return folders


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return told(run(tmp_path_factory.mktemp("whole"), refresh="sweep", store="file"))


@pytest.fixture
def folder(after_three, tmp_path, request):
    store = getattr(request, "param", "file")
    shutil.copytree(after_three[store], tmp_path / "run")
    return tmp_path / "run"


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize(
    ("folder", "limit", "error", "name"),
    [
        ("file", 30_000, StoreError, "support-3.store"),  # holds a checkpoint but no round
        ("file", 10_000, StoreError, "support-3.store"),
        ("host", 10_000, RunFolderError, "checkpoint.safetensors"),  # holds a round, no checkpoint
        ("host", 2_000, RunFolderError, "support-3.safetensors"),
    ],
    indirect=["folder"],
)
def test_a_full_disk(folder, whole, limit, error, name):
    """No file may grow beyond a limit, which is what a disk looks like that is full by then."""
    before = contents(folder)
    store = "file" if "support-2.store" in before else "host"

    def cramped():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(error, match=name) as caught:
            run(folder, refresh="sweep", store=store)
        assert "untouched" in str(caught.value)

    assert in_a_child(cramped) == 0
    left = contents(folder)
    assert {k: left[k] for k in before} == before
    assert not [k for k in left if k.endswith(".partial")]
    assert told(run(folder, refresh="sweep", store=store)) == whole  # once there is room again


def test_a_disk_that_fills_up_in_the_middle_of_a_stroke(folder, whole, monkeypatch):
    """Where space cannot be reserved beforehand, a part of the rows is written when it shows."""
    before = contents(folder)
    monkeypatch.setattr(rounds, "_reserve", lambda file, size: None)

    def cramped():
        size = len(before["support-2.store"]) - 2000
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        with pytest.raises(StoreError, match=r"free 0\.0 MB there"):
            run(folder, refresh="sweep", store="file")

    assert in_a_child(cramped) == 0
    assert contents(folder) == before
    assert told(run(folder, refresh="sweep", store="file")) == whole


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["lost", "truncated", "emptied", "flipped", "of another run"])
def test_a_damaged_file_is_named_and_everything_else_stays(folder, tmp_path, name, damage, whole):
    path = folder / name
    raw = path.read_bytes()
    if damage == "lost":
        path.rename(tmp_path / "aside")
    elif damage == "truncated":
        path.write_bytes(raw[:-7])
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "flipped":
        path.write_bytes(raw[:-3] + bytes([raw[-3] ^ 4]) + raw[-2:])
    elif name == "support-2.store":
        other = tmp_path / "other"
        other.mkdir()

        def stops(record):
            if record.epoch == 3:
                raise KeyboardInterrupt

        run(other, refresh="sweep", store="file", listener=listening(epoch=stops), seed=5)
        shutil.copy(other / name, path)
    else:
        path.write_bytes(raw.replace(b"twostroke-checkpoint", b"twostroke-checkpaint"))
    before = contents(folder)
    if damage == "lost" and name == "checkpoint.safetensors":
        with pytest.raises(RunFolderError, match="no checkpoint"):
            run(folder, refresh="sweep", store="file", resume=True)
        return
    with pytest.raises(RunFolderError, match=name) as caught:
        run(folder, refresh="sweep", store="file")
    if name == "support-2.store":
        assert "Weights and optimiser are whole" in str(caught.value)
    assert contents(folder) == before
    path.write_bytes(raw)  # put back from a copy, it goes on
    assert told(run(folder, refresh="sweep", store="file")) == whole


def test_a_store_that_vanishes_or_is_cut_while_it_is_held(folder):
    """A name that is deleted does no harm to a run under way; rows that are gone end it in words."""

    def cuts(where):
        if (where.epoch, where.step) == (3, 2):
            (path,) = folder.glob("support-3.store")
            os.truncate(path, path.stat().st_size - 3000)

    before = (folder / "checkpoint.safetensors").read_bytes()
    with pytest.raises(SupportFileError, match=r"support-3\.store ends before its last row"):
        run(folder, refresh="sweep", store="file", listener=listening(step=cuts))
    assert (folder / "checkpoint.safetensors").read_bytes() == before

    def deletes(where):
        if (where.epoch, where.step) == (4, 2):
            next(folder.glob("support-4.store")).unlink()

    result = run(folder, refresh="sweep", store="file", listener=listening(step=deletes), epochs=5)
    assert len(result.history) == 5


def parts_of(checkpoint):
    identity = json.loads(read_tensors(checkpoint.file)[1]["twostroke-checkpoint"])["identity"]
    saved, tensors = checkpoint.read(identity), {}
    pack(saved.state, tensors, "state")
    return saved, tensors


@pytest.mark.parametrize("folder", ["host"], indirect=True)
def test_every_altered_byte_is_noticed_or_does_no_harm(folder):
    checkpoint = Checkpoint(folder)
    good, good_tensors = parts_of(checkpoint)
    draw = torch.Generator().manual_seed(0)
    for path in folder.iterdir():
        raw = path.read_bytes()
        drawn = torch.randint(0, len(raw), (120,), generator=draw).tolist()
        for place in [*range(60), *drawn]:
            path.write_bytes(raw[:place] + bytes([raw[place] ^ 1 << place % 8]) + raw[place + 1 :])
            try:
                read, tensors = parts_of(checkpoint)
            except RunFolderError as error:
                assert path.name in str(error)  # noqa: PT017
                continue
            assert read.values == good.values
            assert read.support == good.support
            assert read.history.epochs == good.history.epochs
            assert tensors.keys() == good_tensors.keys()
            assert all(torch.equal(tensors[k], t) for k, t in good_tensors.items())
        path.write_bytes(raw)


def test_tensors_of_every_type_come_back(tmp_path):
    tensors = {
        "a": torch.randn(3, 2, dtype=torch.bfloat16),
        "b": torch.tensor(7),
        "c": torch.zeros(0, 4),
        "d": torch.randn(4, 6).t()[::2],
        "e": torch.tensor([True, False]),
    }
    save_tensors(tmp_path / "t", tensors, {"of": "us"})
    again, metadata = read_tensors(tmp_path / "t")
    assert metadata == {"of": "us"}
    assert all(torch.equal(again[k], t) and again[k].dtype == t.dtype for k, t in tensors.items())


def test_two_processes_may_save_to_one_path(tmp_path):
    """Each writes a file of its own beside; the last to finish has its whole file in place."""
    from twostroke._files import beside, replacing, sweep_partials

    path = tmp_path / "x"
    with replacing(path) as mine:
        mine.write_text("mine")

        def other():
            with replacing(path) as theirs:
                assert theirs != mine
                theirs.write_text("theirs")

        assert in_a_child(other) == 0
        assert path.read_text() == "theirs"
        sweep_partials(tmp_path)  # of a living process, so it stays
        assert mine.exists()
    assert path.read_text() == "mine"
    assert beside(path).parent == tmp_path
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
