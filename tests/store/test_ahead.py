"""Reading ahead is a hint: whatever is announced, what is read is what was asked for."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twostroke._ahead import ReadAhead
from twostroke.errors import StoreError, SupportFileError, SupportMismatchError
from twostroke.store import rounds
from twostroke.support import Support

from .test_file import SITES, everything, files, made, stroke

THREAD = ThreadPoolExecutor(1)
BATCHES = st.lists(st.lists(st.integers(0, 19), min_size=1, max_size=4), max_size=8)


@given(announced=BATCHES, asked=BATCHES, again=BATCHES)
@settings(max_examples=40, deadline=None)
def test_rows_are_those_asked_for_whatever_was_announced(announced, asked, again):
    support = made(20)
    store = files(SITES, 20)
    stroke(store, support)
    for hint in (announced, again):
        store.expect(torch.tensor(batch) for batch in hint)
        for batch in [*asked, *hint]:
            indices = torch.tensor(batch)
            assert store.read(indices, "cpu") == support[indices]
    store.close()


def test_announced_batches_are_fetched_in_the_thread_and_once():
    seen = []

    def fetch(indices):
        seen.append((threading.current_thread() is threading.main_thread(), indices.tolist()))
        return indices[:, None]

    ahead = ReadAhead(fetch, THREAD)
    batches = [torch.tensor([k, k + 1]) for k in range(6)]
    ahead.expect(batches)
    assert ahead.take(torch.tensor([9, 9])) is None  # the probe of a drift check, say
    for batch in batches[:3]:
        assert torch.equal(ahead.take(batch), batch[:, None])
    assert ahead.take(batches[4]) is not None  # one left out is forgotten
    assert ahead.take(batches[3]) is None
    ahead.forget()
    assert seen == [(False, b.tolist()) for b in batches[: len(seen)]]
    assert len(seen) >= 5


def test_no_more_than_two_are_kept():
    drawn = []

    def batches():
        for k in range(100):
            drawn.append(k)
            yield torch.tensor([k])

    ahead = ReadAhead(lambda indices: indices, THREAD)
    ahead.expect(batches())
    assert len(drawn) == 2
    ahead.take(torch.tensor([0]))
    assert len(drawn) == 3
    ahead.forget()


def test_a_batch_may_be_changed_by_its_owner_after_it_was_announced():
    ahead = ReadAhead(lambda indices: indices.clone(), THREAD)
    batch = torch.tensor([1, 2])
    ahead.expect([batch])
    batch.fill_(7)
    assert ahead.take(torch.tensor([1, 2])).tolist() == [1, 2]
    ahead.forget()


def test_an_error_of_the_thread_is_raised_where_the_batch_is_read(tmp_path):
    store = files(SITES, 20, tmp_path)
    stroke(store, made(20))
    with (tmp_path / "support-1.store").open("r+b") as file:
        file.truncate(100)
    store.expect([torch.tensor([3]), torch.tensor([4])])
    with pytest.raises(SupportFileError, match="cut short"):
        store.read(torch.tensor([3]), "cpu")
    store.close()


def test_threads_end_with_the_store(tmp_path):
    def ours():
        return sorted(t.name for t in threading.enumerate() if t.name.startswith("twostroke-store"))

    store = files(SITES, 20, tmp_path)
    stroke(store, made(20))
    store.expect([torch.tensor([3])])
    assert ours() == ["twostroke-store_0"]
    stroke(store, made(20, 1), 2)  # a new round: nothing of the old one is handed out
    assert store.read(torch.tensor([3]), "cpu") == made(20, 1)[[3]]
    store.close()
    assert not ours()


def test_what_is_written_is_what_was_given_even_if_it_is_changed_at_once(tmp_path):
    store, rows = files(SITES, 20, tmp_path), made(20).rows.clone()
    store.begin(1, 0)
    indices = torch.arange(20)
    store.write(indices, Support(SITES, rows))
    rows.zero_()
    indices.zero_()
    store.publish()
    assert everything(store) == made(20)
    store.close()


def test_an_error_of_the_writing_thread_is_raised(tmp_path, monkeypatch):
    def full(file, data, offset):
        raise OSError(28, "No space left on device")

    store = files(SITES, 20, tmp_path)
    store.begin(1, 0)
    monkeypatch.setattr(rounds, "_write", full)
    store.write(torch.arange(10), made(10))
    with pytest.raises(StoreError, match="No space left on device"):
        store.write(torch.arange(10, 20), made(10))
    with pytest.raises(SupportMismatchError, match="must see every example"):
        store.publish()
    store.close()
    assert not list(tmp_path.iterdir())
