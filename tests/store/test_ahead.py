"""Reading ahead is a hint: whatever is announced, what is read is what was asked for."""

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twostroke.errors import SupportFileError
from twostroke.store import FileStore
from twostroke.store.ahead import ReadAhead

from .test_file import SITES, made, stroke

BATCHES = st.lists(st.lists(st.integers(0, 19), min_size=1, max_size=4), max_size=8)


@given(announced=BATCHES, asked=BATCHES, again=BATCHES)
@settings(max_examples=40, deadline=None)
def test_rows_are_those_asked_for_whatever_was_announced(announced, asked, again):
    support = made(20)
    store = FileStore(SITES, 20)
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

    ahead = ReadAhead(fetch)
    batches = [torch.tensor([k, k + 1]) for k in range(6)]
    ahead.expect(batches)
    assert ahead.take(torch.tensor([9, 9])) is None  # the probe of a drift check, say
    for batch in batches[:3]:
        assert torch.equal(ahead.take(batch), batch[:, None])
    assert ahead.take(batches[4]) is not None  # one left out is forgotten
    assert ahead.take(batches[3]) is None
    ahead.close()
    assert seen == [(False, b.tolist()) for b in batches[: len(seen)]]
    assert len(seen) >= 5


def test_no_more_than_two_are_kept():
    drawn = []

    def batches():
        for k in range(100):
            drawn.append(k)
            yield torch.tensor([k])

    ahead = ReadAhead(lambda indices: indices)
    ahead.expect(batches())
    assert len(drawn) == 2
    ahead.take(torch.tensor([0]))
    assert len(drawn) == 3
    ahead.close()


def test_a_batch_may_be_changed_by_its_owner_after_it_was_announced():
    ahead = ReadAhead(lambda indices: indices.clone())
    batch = torch.tensor([1, 2])
    ahead.expect([batch])
    batch.fill_(7)
    assert ahead.take(torch.tensor([1, 2])).tolist() == [1, 2]
    ahead.close()


def test_an_error_of_the_thread_is_raised_where_the_batch_is_read(tmp_path):
    store = FileStore(SITES, 20, tmp_path)
    stroke(store, made(20))
    with (tmp_path / "support-1.store").open("r+b") as file:
        file.truncate(100)
    store.expect([torch.tensor([3]), torch.tensor([4])])
    with pytest.raises(SupportFileError, match="cut short"):
        store.read(torch.tensor([3]), "cpu")
    store.close()


def test_the_thread_ends_with_the_store(tmp_path):
    before = threading.active_count()
    store = FileStore(SITES, 20, tmp_path)
    stroke(store, made(20))
    store.expect([torch.tensor([3])])
    assert threading.active_count() == before + 1
    stroke(store, made(20, 1), 2)  # a new round: nothing of the old one is handed out
    assert store.read(torch.tensor([3]), "cpu") == made(20, 1)[[3]]
    store.close()
    assert threading.active_count() == before
