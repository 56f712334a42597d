"""Which store is picked, what is said of it, and what is refused before any work."""

import pytest
import torch

import twostroke as ts
from tests.toy import toy_data, toy_net
from twostroke.errors import SettingsError, StoreError, TooLargeError
from twostroke.store import FileStore, MemoryStore, Place, make_store
from twostroke.store.choose import Free, choose_store, free_space
from twostroke.support import Site

GB = 10**9
CPU = torch.device("cpu")
SITES = (Site("a", 0, "relu", (80,)),)


def of(need, examples):
    """A place of so many bytes, roughly, for so many examples."""
    return Place((Site("a", 0, "relu", (8 * need // examples,)),), examples, CPU)


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
    choice = choose_store("auto", of(need * GB, 50_000), free)
    assert choice.kind == kind
    assert f"{need} GB of masks, 50,000 examples" in choice.why
    assert "500 GB on disk" in choice.why


@pytest.mark.parametrize("kind", ["auto", "device", "host", "file"])
def test_more_than_there_is_is_refused_with_a_figure_and_a_fix(kind):
    free = Free(8 * GB, 64 * GB, 500 * GB)
    with pytest.raises(TooLargeError, match=r"300 GB of masks") as caught:
        choose_store(kind, of(300 * GB, 50_000), free)
    text = str(caught.value)
    assert "500 GB on disk" in text
    assert "fewer examples" in text
    assert "batch-wise" in text


def test_a_kind_asked_for_by_name_may_fill_what_is_free():
    free = Free(8 * GB, 64 * GB, 500 * GB)
    for kind, need in (("device", 7), ("host", 60), ("file", 250)):
        assert choose_store(kind, of(need * GB, 10), free).kind == kind
    assert choose_store("device", of(60 * GB, 10), Free(None, 64 * GB, 0)).kind == "device"


def test_each_kind_is_made(tmp_path):
    place = Place(SITES, 5, CPU, tmp_path)
    assert (place.row, place.nbytes) == (10, 50)
    for kind, cls in (("auto", MemoryStore), ("host", MemoryStore), ("file", FileStore)):
        store = make_store(kind, place)
        assert type(store) is cls
        assert len(store) == 5
        assert "50 B of masks, 5 examples" in store.where
        store.close()
    assert str(tmp_path) in store.where


def test_a_function_makes_a_store_of_ones_own():
    made = []

    def mine(place):
        made.append(place)
        return MemoryStore(place)

    place = Place(SITES, 5, CPU)
    store = make_store(mine, place)
    assert made == [place]
    assert len(store) == 5


def test_what_is_free_is_known_here(tmp_path):
    free = free_space(torch.device("cpu"), tmp_path / "not" / "yet")
    assert free.device is None
    assert 0 < free.host < 2**50
    assert free.disk > 0


def test_settings():
    with pytest.raises(SettingsError, match=r"no store 'disk'.*auto, device, host, file"):
        ts.InstanceWise(store="disk")


def test_too_much_is_refused_before_training(monkeypatch):
    from twostroke.store import choose

    monkeypatch.setattr(choose, "free_space", lambda *_: Free(None, 100, 100))
    seen = []

    class Sees(ts.Listener):
        def step(self, where):
            seen.append(where)

    with pytest.raises(TooLargeError, match="fit nowhere"):
        ts.fit(toy_net(), toy_data(), alternation=ts.InstanceWise(), epochs=1, listener=Sees())
    assert not seen


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be made"):
        FileStore(Place(SITES, 3, CPU, tmp_path / "file" / "below"))
