"""Losses of parts make that of the batch: weighted, summed, smoothed, ignored; or they are refused."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import twostroke as ts
from tests.toy import toy_data, toy_net
from twostroke.data import Data
from twostroke.errors import SettingsError
from twostroke.training import Objective

WEIGHT = torch.tensor([0.2, 1.0, 3.0, 0.7], dtype=torch.float64)
LOSSES = {
    "plain": F.cross_entropy,
    "weighted": nn.CrossEntropyLoss(WEIGHT),
    "function": partial(F.cross_entropy, weight=WEIGHT),
    "ignored": nn.CrossEntropyLoss(ignore_index=2),
    "smooth": nn.CrossEntropyLoss(label_smoothing=0.2),
    "all": nn.CrossEntropyLoss(WEIGHT, ignore_index=0, label_smoothing=0.1),
    "sum": nn.CrossEntropyLoss(WEIGHT, reduction="sum"),
    "margin": nn.MultiMarginLoss(weight=WEIGHT),  # weighted, and divided by the number of examples
}
# batches of 50, 50, 50 and 10: in seven parts some are of one example, all of whose labels may be ignored
WHOLE = {"epochs": 1, "batch_size": 50, "lr": 0.02, "probe": 40}


class Doubles:
    """The toy examples in float64."""

    def __init__(self, source):
        self.source, self.shape, self.classes = source, source.shape, source.classes

    def __len__(self):
        return len(self.source)

    def batch(self, indices, *, view=None, seed=0):
        x, y = self.source.batch(indices, view=view, seed=seed)
        return x.double(), y


DATA = Data("doubles", *(Doubles(part) for part in (toy_data().train, toy_data().test)))


def trained(loss, **options):
    model = toy_net().double()
    result = ts.fit(model, DATA, loss=loss, **(WHOLE | options))
    return result, torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("name", LOSSES)
def test_parts_make_the_step_of_the_whole_batch(name):
    loss = LOSSES[name]
    one, weights = trained(loss, alternation=ts.InstanceWise(warmup=0, penalty=0.1))
    parts, same = trained(loss, alternation=ts.InstanceWise(warmup=0, penalty=0.1), accumulate=7)
    torch.testing.assert_close(same, weights, rtol=1e-10, atol=1e-10)
    a, b = one.history[0], parts.history[0]
    assert b.loss_train == pytest.approx(a.loss_train, rel=1e-6)
    # figures are of all examples at once
    x, y = DATA.test.batch(torch.arange(80))
    with torch.no_grad():
        whole = float(loss(one.model(x), y)) / (80 if name == "sum" else 1)
    assert a.loss_test == pytest.approx(whole, rel=1e-9)
    split = ts.evaluate(one.model, DATA.test, loss=loss, batch_size=7)
    assert split.loss == pytest.approx(whole, rel=1e-9)


def test_a_whole_batch_descends_on_the_loss_as_it_is():
    """Bit for bit: no weighing of what needs none."""
    from twostroke.training.loop import epoch_seed

    loss = LOSSES["all"]
    _, weights = trained(loss, schedule="constant", momentum=0.0, weight_decay=0.0)
    bare = toy_net().double()
    optimizer = torch.optim.SGD(bare.parameters(), lr=0.02)
    for part in torch.randperm(
        160, generator=torch.Generator().manual_seed(epoch_seed(0, 0))
    ).split(50):
        x, y = DATA.train.batch(part)
        optimizer.zero_grad()
        loss(bare(x), y).backward()
        optimizer.step()
    assert torch.equal(weights, torch.cat([p.detach().flatten() for p in bare.parameters()]))


@dataclass
class Smooth:  # which has no hash
    share: float = 0.1

    def __call__(self, outputs, y):
        return F.cross_entropy(outputs, y, label_smoothing=self.share)


class Contrast(nn.Module):
    """Of the batch as a whole."""

    def forward(self, outputs, y):
        return F.cross_entropy(outputs - outputs.mean(0), y)


class Remembers(nn.Module):
    """Divides by a running mean of itself."""

    def __init__(self, always=False):
        super().__init__()
        self.register_buffer("mean", torch.ones(()))
        self.always = always

    def forward(self, outputs, y):
        loss = F.cross_entropy(outputs, y)
        if self.training or self.always:
            self.mean.mul_(0.9).add_(0.1 * loss.detach())
        return loss / self.mean


class Regularised(Objective):
    def __call__(self, net, batch):
        outputs = net(batch.x)
        return self.loss(outputs, batch.y) + 0.1 * outputs.square().sum(1).mean()


class Coupled(Objective):
    def __call__(self, net, batch):
        return self.loss(net(batch.x), batch.y) + net(batch.x).std()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"loss": lambda o, y: F.cross_entropy(o, y, weight=WEIGHT), "accumulate": 5},
            "no mean over",
        ),
        ({"loss": lambda o, y: F.cross_entropy(o, y, reduction="sum")}, "the sum over a batch"),
        ({"loss": nn.CrossEntropyLoss(reduction="none")}, "is \\(10,\\), not one number"),
        ({"loss": Contrast(), "accumulate": 2}, "the loss is no mean over"),
        ({"loss": Remembers(), "accumulate": 2}, "changes its buffers in each call"),
        ({"loss": Remembers(always=True)}, "for the same outputs, in evaluation mode"),
        ({"objective": Coupled(F.cross_entropy), "accumulate": 2}, "no mean over the examples"),
        ({"objective": Regularised(LOSSES["weighted"]), "accumulate": 2}, "within an objective"),
        ({"objective": Regularised(nn.CrossEntropyLoss(reduction="sum"))}, "the sum over a batch"),
    ],
)
def test_what_cannot_be_added_up_is_refused_before_training(options, message):
    model = toy_net().double()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(SettingsError, match=message):
        ts.fit(model, DATA, **WHOLE, **options)
    assert all(map(torch.equal, model.parameters(), before))
    assert all(p.grad is None for p in model.parameters())


def test_what_is_no_mean_may_train_on_whole_batches():
    result, _ = trained(Contrast())
    assert any("no mean over its examples" in note for note in result.notes)
    assert not trained(Smooth())[0].notes
    assert trained(F.cross_entropy, objective=Regularised(F.cross_entropy), accumulate=2)[0].ok


def test_a_loss_with_weights_of_its_own_trains_and_is_not_moved_by_figures():
    loss = Remembers()
    trained(loss)
    assert loss.training
    assert loss.mean != 1

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, outputs, y):
            return F.cross_entropy(outputs * self.scale, y)

    scaled = Scaled()
    trained(scaled)
    assert float(scaled.scale.detach()) != 1
