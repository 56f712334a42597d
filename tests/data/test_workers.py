"""Workers give what no worker gives, bit for bit, in any order of asking."""

import os
import signal

import pytest
import torch
from torch.utils.data import Dataset

import twostroke as ts
from tests.toy import toy_net, toy_tensors
from twostroke.data import Data, DatasetExamples, Examples, FlipShift, announce
from twostroke.errors import DataError, SettingsError


class Slow(Dataset):
    """Toy images as decoded pictures would come: one at a time."""

    classes = ("a", "b", "c", "d")

    def __init__(self, count=40, bad=None):
        self.x, self.y = toy_tensors(count)
        self.bad = bad

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        if index == self.bad:
            return self.x[index] * float("nan"), 0
        if self.bad == "kill" and index == 7 and torch.utils.data.get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL)
        return self.x[index], int(self.y[index])


def source(workers, **options):
    return DatasetExamples(
        Slow(**options), augmentation=FlipShift(shift=1), mean=[0.3], std=[0.7], workers=workers
    )


def test_batches_are_the_same_bit_for_bit_whatever_is_asked_for():
    plain, ahead = source(0), source(2)
    order = torch.randperm(40).split(7)
    announce(ahead, order)
    announce(plain, order)  # which makes nothing of it
    for step, indices in enumerate(order):
        for a, b in zip(
            ahead.batch(indices, view=step, seed=3),
            plain.batch(indices, view=step, seed=3),
            strict=True,
        ):
            assert torch.equal(a, b)
        if step == 2:  # in between, out of turn
            other = torch.tensor([5, 5, 1])
            assert torch.equal(ahead.batch(other)[0], plain.batch(other)[0])
    # announced, begun, and announced anew
    announce(ahead, order)
    ahead.batch(order[0])
    again = torch.arange(40).split(9)
    announce(ahead, again)
    for indices in [*again, again[0]]:
        assert torch.equal(ahead.batch(indices, view=1)[0], plain.batch(indices, view=1)[0])


def test_what_was_announced_comes_from_the_workers(monkeypatch):
    ahead = source(1)
    announce(ahead, torch.arange(20).split(5))
    monkeypatch.setattr(ahead, "_fetch", lambda indices: pytest.fail("fetched in this process"))
    for indices in torch.arange(20).split(5):
        ahead.batch(indices)


def test_training_with_workers_is_the_same_training():
    x, y = toy_tensors(20, seed=1)
    weights = []
    for workers in (0, 2):
        data = Data("slow", source(workers), Examples(x, y, classes=Slow.classes))
        kind = ts.InstanceWise(warmup=1, gap=1, probe=10)
        result = ts.fit(toy_net(), data, alternation=kind, epochs=3, batch_size=12, accumulate=2)
        weights.append(torch.cat([p.detach().flatten() for p in result.model.parameters()]))
    assert torch.equal(*weights)


def test_errors_are_those_of_the_examples():
    ahead = source(2, bad=9)
    announce(ahead, torch.arange(20).split(5))
    ahead.batch(torch.arange(5))
    with pytest.raises(DataError, match=r"^item 9 has a pixel that is NaN"):
        ahead.batch(torch.arange(5, 10))
    killed = source(1, bad="kill")
    announce(killed, [torch.arange(5, 10)])
    with pytest.raises(DataError, match="fewer workers"):
        killed.batch(torch.arange(5, 10))
    with pytest.raises(SettingsError, match="-1"):
        source(-1)
