"""Which store is picked, what is said of it, and what is refused before any work."""

import pytest
import torch

import twostroke as ts
from tests.toy import toy_data, toy_net
from twostroke.errors import SettingsError, StoreError, TooLargeError
from twostroke.store import FileStore, Free, MemoryStore, choose_store, make_store
from twostroke.store.choose import free_space
from twostroke.support import Site

GB = 10**9
SITES = (Site("a", 0, "relu", (80,)),)


@pytest.mark.parametrize(
    ("need", "free", "kind"),
    [
        (3, Free(8, 64, 500), "device"),
        (5, Free(8, 64, 500), "host"),
        (5, Free(None, 64, 500), "host"),  # on a CPU the host's memory is the device's
        (40, Free(8, 64, 500), "file"),
        (5, Free(None, 8, 500), "file"),
        (250, Free(8, 64, 500), "file"),
    ],
)
def test_auto_takes_the_first_that_leaves_room(need, free, kind):
    free = Free(*(None if f is None else f * GB for f in free))
    choice = choose_store("auto", need * GB, 50_000, free)
    assert choice.kind == kind
    assert f"{need} GB of masks, 50,000 examples" in choice.why
    assert "500 GB on disk" in choice.why


@pytest.mark.parametrize("kind", ["auto", "device", "host", "file"])
def test_more_than_there_is_is_refused_with_a_figure_and_a_fix(kind):
    free = Free(8 * GB, 64 * GB, 500 * GB)
    with pytest.raises(TooLargeError, match=r"300 GB of masks") as caught:
        choose_store(kind, 300 * GB, 50_000, free)
    text = str(caught.value)
    assert "500 GB on disk" in text
    assert "fewer examples" in text
    assert "BatchWise" in text


def test_a_kind_asked_for_by_name_may_fill_what_is_free():
    free = Free(8 * GB, 64 * GB, 500 * GB)
    for kind, need in (("device", 7), ("host", 60), ("file", 250)):
        assert choose_store(kind, need * GB, 10, free).kind == kind
    assert choose_store("device", 60 * GB, 10, Free(None, 64 * GB, 0)).kind == "device"


def test_each_kind_is_made(tmp_path):
    cpu = torch.device("cpu")
    for kind, cls in (("auto", MemoryStore), ("host", MemoryStore), ("file", FileStore)):
        store, why = make_store(kind, SITES, 5, cpu, tmp_path)
        assert type(store) is cls
        assert len(store) == 5
        assert store.nbytes == 50
        assert "50 B of masks, 5 examples" in why
        store.close()
    assert str(tmp_path) in why


def test_what_is_free_is_known_here(tmp_path):
    free = free_space(torch.device("cpu"), tmp_path / "not" / "yet")
    assert free.device is None
    assert 0 < free.host < 2**50
    assert free.disk > 0


def test_settings():
    with pytest.raises(SettingsError, match="auto, device, host, file, not 'disk'"):
        ts.InstanceWise(store="disk")


def test_too_much_is_refused_before_training(monkeypatch):
    from twostroke.store import choose

    monkeypatch.setattr(choose, "free_space", lambda *_: Free(None, 100, 100))
    seen = []
    with pytest.raises(TooLargeError, match="fit nowhere"):
        ts.fit(toy_net(), toy_data(), alternation=ts.InstanceWise(), epochs=1, progress=seen.append)
    assert not seen


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be made"):
        FileStore(SITES, 3, tmp_path / "file" / "below")
