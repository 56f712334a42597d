"""A store from outside serves instance-wise alternation as ours do, also in a run that is resumed."""

import torch

import twostroke as ts
from tests.listening import told
from tests.toy import toy_data, toy_net
from twostroke.store import Store

QUICK = {"epochs": 4, "batch_size": 40, "lr": 0.05, "probe": 40}


class Listed(Store):
    """Rows in a list."""

    where = "a list"

    def __init__(self, place):
        self.sites, self.rows = place.sites, [None] * place.examples

    def __len__(self):
        return len(self.rows)

    def begin(self, round_, view):
        self.rows = [None] * len(self.rows)

    def write(self, indices, support):
        for i, row in zip(indices.tolist(), support.rows, strict=True):
            self.rows[i] = row

    def publish(self):
        assert all(row is not None for row in self.rows)

    def read(self, indices, device):
        return ts.Support(self.sites, torch.stack([self.rows[i] for i in indices.tolist()]))


def fitted(store, seed=0, **options):
    kind = ts.InstanceWise(warmup=1, gap=2, store=store)
    return ts.fit(toy_net(seed=seed), toy_data(), alternation=kind, **(QUICK | options))


def test_the_run_is_that_of_a_store_of_ours():
    ours, own = fitted("host"), fitted(Listed)
    assert own.notes == ["masks are kept in a list"]
    assert own.history.column("phase") == ["live", "held", "held", "held"]
    assert own.history.column("loss_train") == ours.history.column("loss_train")
    for p, q in zip(ours.model.parameters(), own.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_run_that_was_stopped_in_a_round_goes_on_with_its_masks(tmp_path):
    def stop(where):
        if where.epoch == 2:
            raise KeyboardInterrupt

    fitted(Listed, folder=tmp_path, listener=told(step=stop))
    again, whole = fitted(Listed, seed=9, folder=tmp_path, resume=True), fitted(Listed)
    assert again.history.column("loss_train") == whole.history.column("loss_train")
