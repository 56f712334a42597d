"""The three phases: what they keep at zero, what they report, and how they go on."""

import copy
import json
import math

import pytest
import torch
from torch import nn

import twostroke as ts
from tests.toy import toy_data, toy_net, toy_tensors
from twostroke.data import from_tensors
from twostroke.errors import RunFolderError, SettingsError
from twostroke.sparsity import (
    MASKS,
    Connections,
    Magnitude,
    Masked,
    PassedEnergy,
    Recipe,
    Units,
    dense_sparse_dense,
    recipe,
)
from twostroke.training import Listener

SHORT = Recipe(epochs=(2, 2, 1), lrs=(0.05, 0.02, 0.01), batch_size=40)


@pytest.mark.parametrize("mask", MASKS)
def test_every_mask_trains_a_plain_model(mask):
    model = toy_net(norm=True)
    names, kind = list(model.state_dict()), type(model)
    result = dense_sparse_dense(model, toy_data(), mask=mask, phases=SHORT)
    assert result.status is ts.Status.FINISHED
    assert [p.name for p in result.phases] == ["dense", "sparse", "dense again"]
    assert list(model.state_dict()) == names
    assert type(model) is kind
    assert result.model is model
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert len(result.history) == 5
    assert [r.epoch for r in result.history] == [1, 2, 3, 4, 5]
    dense, sparse, again = result.phases
    assert dense.sparsity == 0
    assert again.sparsity < 0.01  # pruned weights have returned
    pruned = mask in ("magnitude", "batch-connections", "instance-connections")
    assert (sparse.sparsity > 0.1) == pruned
    assert (sparse.units_on is not None) == mask.endswith("units")
    assert sparse.by_layer["0"] == 0
    assert result.sparse_sparsity == sparse.sparsity
    assert result.error < 50


def test_pruned_weights_and_their_momentum_stay_zero_in_every_step():
    model, data = toy_net(), toy_data()
    masks = Magnitude(ratio=0.5).find(model, data.train, seed=0)
    seen = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            super().step()
            spied.append(self)

    spied: list[torch.optim.Optimizer] = []

    class Look(Listener):
        def step(self, where):
            optimizer = spied[-1]
            for path, keep in masks.items():
                weight = model.get_submodule(path).weight
                gone = weight.detach()[~keep]
                buffer = optimizer.state[weight]["momentum_buffer"]
                seen.append(float(gone.abs().max() + buffer[~keep].abs().max()))
                assert float(buffer[keep].abs().max()) > 0

    ts.fit(
        model,
        data,
        alternation=Masked(masks=masks),
        epochs=1,
        batch_size=40,
        optimizer=lambda ps: Spy(ps, lr=0.1, momentum=0.9, weight_decay=0.01),
        schedule="constant",
        listener=Look(),
    )
    assert seen == [0.0] * 8


def test_masks_do_not_stop_the_kept_weights():
    """With nothing pruned, masked training is ordinary training, bit for bit."""
    model = toy_net()
    other = copy.deepcopy(model)
    masks = {"4": torch.ones_like(model[4].weight, dtype=torch.bool)}
    for net, kind in ((model, Masked(masks=masks)), (other, None)):
        ts.fit(net, toy_data(), alternation=kind, epochs=1, batch_size=40)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )


def test_connections_of_units_that_are_off_rest():
    model = toy_net()
    with torch.no_grad():
        model[4].bias[2] = -100  # this unit of the second site is never on
    before = copy.deepcopy(model)
    ts.fit(
        model,
        toy_data(),
        alternation=Units(),
        epochs=1,
        batch_size=40,
        optimizer="sgd",
        weight_decay=0.1,
        lr=0.1,
    )
    assert torch.equal(model[4].weight[2], before[4].weight[2])  # what leads to it
    served = before[7].weight.view(4, 8, 9)[:, 2]
    assert torch.equal(model[7].weight.view(4, 8, 9)[:, 2], served)  # and away from it
    assert not torch.equal(model[4].weight[1], before[4].weight[1])


def test_passed_energy_is_what_it_says():
    q = torch.tensor([[[3.0, -9.0, 1.0]], [[1.0, 0.0, 0.0]]])  # energies 9 0 1 and 1 0 0
    shared = PassedEnergy(0.5)(q)
    assert shared.tolist() == [[[True, False, False]]]  # 5 0 0.5 against 0.5 · 1.83
    assert PassedEnergy(0.3, shared=False)(q).tolist() == [
        [[True, False, False]],  # against 0.3 · 10/3 = 1: 1 does not exceed it
        [[True, False, False]],
    ]
    assert PassedEnergy(0.2, shared=False)(q)[0].tolist() == [[True, False, True]]


def test_a_trained_model_skips_the_first_phase_and_reports_around_the_mask():
    model, data = toy_net(norm=True), toy_data()
    ts.fit(model, data, epochs=3, batch_size=40)
    error = ts.evaluate(model, data.test).error
    plan = Recipe(epochs=(0, 1, 1), lrs=(1, 0.01, 0.01), batch_size=40)
    result = dense_sparse_dense(model, data, mask=Magnitude(ratio=0.9), phases=plan)
    sparse, again = result.phases
    assert sparse.error_before == error
    assert sparse.error_masked != error
    assert again.error_before == again.error_masked == sparse.error  # release changes nothing
    assert sparse.sparsity == pytest.approx(0.9 * (8 * 54 + 288) / (54 + 8 * 54 + 288), abs=0.01)


class StopAfter(Listener):
    """Ctrl-C when so many epochs are over."""

    def __init__(self, epochs):
        self.left = epochs

    def epoch(self, record):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_goes_on_where_it_stopped_exactly(tmp_path):
    whole = toy_net(norm=True)
    dense_sparse_dense(whole, toy_data(), phases=SHORT)
    for stop in (1, 3, 4):  # within the dense, the sparse phase, at its end
        folder = tmp_path / str(stop)
        first = dense_sparse_dense(
            toy_net(norm=True), toy_data(), phases=SHORT, folder=folder, listener=StopAfter(stop)
        )
        assert first.status is ts.Status.INTERRUPTED
        assert "phase" in first.detail
        model = toy_net(seed=5, norm=True)  # weights come from the folder
        if stop == 1:
            model = toy_net(norm=True)
        result = dense_sparse_dense(model, toy_data(), phases=SHORT, folder=folder)
        assert result.status is ts.Status.FINISHED
        assert len(result.history) == 5
        for a, b in zip(model.state_dict().values(), whole.state_dict().values(), strict=True):
            assert torch.equal(a, b)


def test_a_folder_belongs_to_one_run(tmp_path):
    dense_sparse_dense(toy_net(), toy_data(), phases=SHORT, folder=tmp_path)
    with pytest.raises(RunFolderError, match="another mask"):
        dense_sparse_dense(toy_net(), toy_data(), mask="none", phases=SHORT, folder=tmp_path)
    with pytest.raises(RunFolderError, match="another settings"):
        dense_sparse_dense(toy_net(), toy_data(), phases=SHORT, folder=tmp_path, seed=1)
    with pytest.raises(RunFolderError, match="another statistics"):
        dense_sparse_dense(toy_net(), toy_data(), phases=SHORT, folder=tmp_path, statistics=9)
    with pytest.raises(RunFolderError, match="a run with another model; choose"):
        dense_sparse_dense(toy_net(norm=True), toy_data(), phases=SHORT, folder=tmp_path)
    x, y = toy_tensors(160, seed=5)
    other = from_tensors(x, y, x, y)
    assert other.name == toy_data().name
    with pytest.raises(RunFolderError, match="another examples"):
        dense_sparse_dense(toy_net(), other, phases=SHORT, folder=tmp_path)
    about = tmp_path / "dense-sparse-dense.json"
    kept = json.loads(about.read_text())
    about.write_text(json.dumps({k: v for k, v in kept.items() if k != "examples"}))
    with pytest.raises(
        RunFolderError, match="of an earlier version, which did not note its examples"
    ):
        dense_sparse_dense(toy_net(), toy_data(), phases=SHORT, folder=tmp_path)
    about.write_text(json.dumps(kept))
    (tmp_path / "1-dense" / "phase.json").write_text(json.dumps({"name": "dense"}))
    with pytest.raises(RunFolderError, match="no record of a phase"):
        dense_sparse_dense(toy_net(), toy_data(), phases=SHORT, folder=tmp_path)


def test_several_processes_are_refused_before_anything(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(SettingsError, match="in one process, and this run has 2"):
        dense_sparse_dense(toy_net(), toy_data(), phases=SHORT, folder=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_bad_requests_are_refused_before_training():
    for options, text in [
        ({"mask": "magnitud"}, "did you mean 'magnitude'"),
        ({"mask": 0.3}, "an object that finds masks, such as .*, not 0.3"),
        ({"mask": Magnitude}, "an object that finds masks"),
        ({"phases": (1, 1, 1)}, "phases is a Recipe, such as"),
        ({"epochs": 3}, "epochs belongs to the phases"),
        ({"lr": 0.1}, "lr belongs to the phases"),
        ({"batchsize": 3}, "batch_size"),
        ({"statistics": 0}, "statistics is a number of examples, 1 or more, not 0"),
        ({"batch_size": 4000}, "larger than the 160 training examples"),
    ]:
        with pytest.raises(SettingsError, match=text):
            dense_sparse_dense(toy_net(), toy_data(), **options)
    with pytest.raises(SettingsError, match="no convolution"):
        dense_sparse_dense(nn.Flatten(), toy_data())
    large = nn.Sequential(nn.Conv2d(1, 4, 7), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    large(torch.zeros(1, 1, 32, 32))
    with pytest.raises(SettingsError, match=r"does not take images of shape \(1, 6, 6\)"):
        dense_sparse_dense(large, toy_data(), phases=SHORT)


@pytest.mark.parametrize("per", ["batch", "instance"])
def test_units_of_relu6_are_masked_too(per):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.ReLU6(),
        nn.Conv2d(6, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 4),
    )
    mask = Units(per=per, price=0.3)
    result = dense_sparse_dense(model, toy_data(), mask=mask, phases=SHORT)
    assert 0 < result.phases[1].units_on < 1


def test_density_is_that_of_the_masks_that_training_holds():
    model, (x, _) = toy_net(), toy_tensors(40)
    shared = Units(price=0.3)
    support = ts.record(model.eval(), x, rule=shared.rule, gated=True)
    found = shared.density(model, x)
    assert found == support.density()
    assert list(found.by_site.values()) == list(support.density().by_site.values())


class Hears(Listener):
    """Notes what it is told, in order."""

    def __init__(self):
        self.heard, self.notes = [], []

    def note(self, text):
        self.notes.append(text)

    def part(self, name):
        self.heard.append(name)

    def step(self, where):
        self.heard.append((where.epoch, where.step, where.steps))

    def epoch(self, record):
        self.heard.append(record.epoch)


def test_a_listener_hears_of_phases_steps_and_epochs_in_order():
    plan = Recipe(epochs=(1, 1, 1), lrs=(0.05, 0.02, 0.01), batch_size=80)
    heard = Hears()
    result = dense_sparse_dense(toy_net(), toy_data(), phases=plan, listener=heard)
    steps = [(0, 1, 2), (0, 2, 2), 1]
    assert heard.heard == ["dense", *steps, "sparse", *steps, "dense again", *steps]
    assert result.message == "finished: All phases were run."


def test_a_phase_that_diverges_ends_the_run_with_its_status():
    plan = Recipe(epochs=(1, 1, 1), lrs=(0.05, 1e6, 0.01), batch_size=40)
    result = dense_sparse_dense(toy_net(), toy_data(), phases=plan)
    assert result.status is ts.Status.DIVERGED
    assert not result.ok
    assert [phase.name for phase in result.phases] == ["dense", "sparse"]
    assert result.detail.startswith("in the sparse phase, in epoch 1")
    assert "Lower the learning rate" in result.advice
    assert math.isnan(result.error)  # no epoch of the last phase was completed


def test_weights_that_no_mask_reaches_are_named():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(36, 8)
            self.attention = nn.MultiheadAttention(8, 2)
            self.head = nn.Linear(8, 4)

        def forward(self, x):
            z = self.first(x.flatten(1)).relu()[None]
            return self.head(self.attention(z, z, z)[0][0])

    heard = Hears()
    result = dense_sparse_dense(
        Attends(), toy_data(), mask="batch-connections", phases=SHORT, listener=heard
    )
    told = result.notes
    assert heard.notes == told
    assert "no mask reaches attention.in_proj_weight" in told[0]
    assert "no mask was found for attention.out_proj" in told[1]  # used, but never called
    assert result.phases[1].by_layer["head"] > 0


def test_ctrl_c_between_training_ends_the_run_too(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Magnitude, "find", stop)
        result = dense_sparse_dense(toy_net(), toy_data(), phases=SHORT, folder=tmp_path)
    assert result.status is ts.Status.INTERRUPTED
    assert result.detail == "in the sparse phase, outside training"
    assert [phase.name for phase in result.phases] == ["dense"]
    result = dense_sparse_dense(toy_net(), toy_data(), phases=SHORT, folder=tmp_path)
    assert result.status is ts.Status.FINISHED


def test_recipes():
    assert recipe("torchvision/vgg16").whole() == (74, 1, 18)
    assert recipe("vgg16").scaled("short").epochs == (15, 1, 4)
    assert recipe("resnet50") == recipe("resnet18")
    assert recipe("googlenet").scaled("smoke").whole() == (1, 1, 1)
    assert Recipe(epochs=(0, 3, 3)).scaled("short").whole() == (0, 1, 1)
    with pytest.raises(SettingsError, match="scale is one of"):
        Recipe().scaled("tiny")
    with pytest.raises(SettingsError, match="not all 0"):
        Recipe(epochs=(0, 0, 0))
    with pytest.raises(SettingsError, match="positive"):
        Recipe(lrs=(0.1, 0, 0.1))


def test_grouped_and_depthwise_convolutions_prune():
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 1, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 4),
    )
    result = dense_sparse_dense(model, toy_data(), mask=Connections(), phases=SHORT)
    by_layer = result.phases[1].by_layer
    assert by_layer["0"] == 0
    assert all(by_layer[path] > 0 for path in ("2", "4", "7"))
