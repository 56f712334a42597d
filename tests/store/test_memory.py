import pytest
import torch
from torch import nn

import twostroke as ts
from twostroke.errors import SupportMismatchError
from twostroke.store import MemoryStore, Place

NET = nn.Sequential(nn.Linear(5, 11), nn.ReLU(), nn.Linear(11, 3), nn.ReLU())


def memory(sites, examples):
    return MemoryStore(Place(tuple(sites), examples, torch.device("cpu")))


def test_rows_come_back_whatever_the_order():
    x = torch.randn(9, 5)
    support = ts.record(NET, x)
    store = memory(support.sites, 9)
    order = torch.randperm(9)
    for part in order.split(4):
        store.write(part, support[part])
    again = torch.randperm(9)
    assert store.read(again, "cpu") == support[again]


def test_takes_one_bit_a_unit_rounded_up_at_each_site():
    sites = ts.sites(NET, torch.randn(1, 5))
    store = memory(sites, 100)
    assert store.rows.numel() == 100 * (2 + 1)  # 11 and 3 units
    assert len(store) == 100


def test_a_row_never_written_is_not_read():
    support = ts.record(NET, torch.randn(2, 5))
    store = memory(support.sites, 5)
    store.write(torch.tensor([0, 3]), support)
    with pytest.raises(SupportMismatchError, match=r"example 1 \(and 1 more\)"):
        store.read(torch.tensor([0, 1, 2]), "cpu")


def test_refuses_the_support_of_another_model_and_another_count():
    support = ts.record(NET, torch.randn(2, 5))
    other = ts.record(nn.Sequential(nn.Linear(5, 8), nn.ReLU()), torch.randn(2, 5))
    store = memory(support.sites, 5)
    with pytest.raises(SupportMismatchError):
        store.write(torch.tensor([0, 1]), other)
    with pytest.raises(SupportMismatchError):
        store.write(torch.tensor([0, 1, 2]), support)
