"""Networks whose smallest weights are zero, and stay so."""

import pytest
import torch
from torch import nn

from tests.toy import toy_data, toy_net
from twostroke.errors import SettingsError
from twostroke.guidance.students import prune
from twostroke.sparsity import Masked, sparsity
from twostroke.training import fit


def test_the_smallest_of_each_inner_layer_are_zero():
    model = toy_net()
    student, masks = prune(model, 0.75)
    assert list(masks) == ["4"]
    weight, keep = model[4].weight, masks["4"]
    assert int((~keep).sum()) == round(0.75 * keep.numel())
    assert weight[~keep].abs().max() <= weight[keep].abs().min()
    assert torch.equal(student[4].weight, weight * keep)
    assert torch.equal(student[0].weight, model[0].weight)
    assert sparsity(model) == 0


def test_all_layers():
    _, masks = prune(toy_net(), 0.5, spare_ends=False)
    assert list(masks) == ["0", "4", "7"]


def test_masks_stay_through_training():
    student, masks = prune(toy_net(), 0.9)
    before = student[4].weight.clone()
    fit(student, toy_data(), alternation=Masked(masks=masks), epochs=1, lr=0.05, batch_size=50)
    assert torch.equal(student[4].weight != 0, masks["4"])
    assert not torch.equal(student[4].weight, before)


@pytest.mark.parametrize("share", [1, -0.1, float("nan"), "most", True])
def test_share_out_of_range(share):
    with pytest.raises(SettingsError, match="from 0 and below 1"):
        prune(toy_net(), share)


def test_a_model_without_layers_to_prune():
    with pytest.raises(SettingsError, match="no layers between its first and its last"):
        prune(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)), 0.5)


def test_nothing_left_of_a_layer():
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 2), nn.Linear(2, 2))
    with pytest.raises(SettingsError, match="every weight of 1"):
        prune(model, 0.9)


def test_a_weight_that_two_layers_share():
    model = toy_net()
    model.append(nn.Linear(8 * 9, 4))
    model[8].weight = model[7].weight
    with pytest.raises(SettingsError, match="7 shares its weight with 1 other"):
        prune(model, 0.5, spare_ends=False)
