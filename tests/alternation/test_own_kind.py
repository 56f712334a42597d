"""A kind of alternation from outside goes through `fit` as ours do: no name of it is known there."""

from dataclasses import dataclass

import pytest
import torch

import twostroke as ts
from tests.listening import told
from tests.toy import toy_data, toy_net
from twostroke.alternation import Alternation, Alternator, Phase
from twostroke.errors import SettingsError

QUICK = {"epochs": 4, "batch_size": 40, "lr": 0.05, "probe": 40}


@dataclass(frozen=True)
class EveryOther(Alternation):
    """Holds each batch's own masks in every other epoch."""

    name = "every other epoch"
    whole: bool = False

    def machine(self, given):
        return EveryOtherAlternator(given, self.whole)


class EveryOtherAlternator(Alternator):
    def __init__(self, given, whole):
        super().__init__(given)
        self.whole_batch = whole
        self.epochs = 0
        self.notes.append("every other epoch is held")

    def begin_epoch(self, epoch):
        super().begin_epoch(epoch)
        self.epochs += 1
        self.phase = Phase.HELD if self.epochs % 2 == 0 else Phase.LIVE

    def step(self, indices, progress=0.0):
        if self.phase is Phase.LIVE:
            return super().step(indices, progress)
        x, _ = self.source.batch(indices, view=self.view, seed=self.seed)
        return ts.hold(self.model, ts.record(self.model, x))

    def state(self):
        values, support = super().state()
        return values | {"epochs": self.epochs}, support

    def restore(self, values, support):
        super().restore(values, support)
        self.epochs = values["epochs"]


def test_it_trains_and_says_what_it_does():
    result = ts.fit(toy_net(), toy_data(), alternation=EveryOther(), **QUICK)
    assert result.history.column("phase") == ["live", "held", "live", "held"]
    assert result.notes == ["every other epoch is held"]
    # masks of the batch's own are those of the live network
    live = ts.fit(toy_net(), toy_data(), **QUICK)
    assert result.history.column("loss_train") == live.history.column("loss_train")


def test_it_goes_on_exactly_after_a_stop(tmp_path):
    def stop(where):
        if where.epoch == 1:
            raise KeyboardInterrupt

    whole = ts.fit(toy_net(), toy_data(), alternation=EveryOther(), **QUICK)
    options = {"alternation": EveryOther(), "folder": tmp_path, **QUICK}
    ts.fit(toy_net(), toy_data(), listener=told(step=stop), **options)
    again = ts.fit(toy_net(seed=9), toy_data(), resume=True, **options)
    assert again.history.column("phase") == whole.history.column("phase")
    assert again.history.column("loss_train") == whole.history.column("loss_train")
    for p, q in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_what_it_cannot_do_it_says_itself():
    with pytest.raises(SettingsError, match="accumulate=1"):
        ts.fit(toy_net(), toy_data(), alternation=EveryOther(whole=True), accumulate=2, **QUICK)
    ts.fit(toy_net(), toy_data(), alternation=EveryOther(), accumulate=2, **QUICK)
