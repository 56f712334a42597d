"""Training with weights of a few bits."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.toy import toy_data, toy_net
from twostroke.errors import SettingsError
from twostroke.guidance import Guide, distill
from twostroke.guidance.students import finish, quantise
from twostroke.guidance.students.bits import FewBits
from twostroke.guidance.students.levels import multiples
from twostroke.support import hold, record
from twostroke.training import fit


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_inner_layers_have_so_many_levels_a_channel(bits):
    model, x = toy_net(), torch.randn(3, 1, 6, 6)
    before = copy.deepcopy(model.state_dict())
    student = quantise(model, bits)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    for channel in student[4].weight:
        assert len(channel.unique()) <= 2**bits
    assert torch.equal(student[0].weight, model[0].weight)
    assert torch.equal(student[7].weight, model[7].weight)
    expected = copy.deepcopy(model)
    with torch.no_grad():
        odd, scale = multiples(model[4].weight, bits)
        expected[4].weight.copy_(odd * scale)
    assert torch.equal(student(x), expected(x))


def test_the_gradient_goes_straight_through_but_not_further_out():
    layer, bits = FewBits(2), 2
    weight = torch.randn(4, 50, dtype=torch.float64)
    weight[0, 0], weight[1, 0] = 9, -9
    weight.requires_grad_()
    grad = torch.randn_like(weight)
    for sign in (1, -1):
        grad[0, 0] = grad[1, 0] = float(sign)
        (found,) = torch.autograd.grad(layer(weight), weight, grad)
        _, scale = multiples(weight.detach(), bits)
        expected = grad.clone()
        for i in range(4):
            for j in range(50):
                w, g = weight[i, j].item(), grad[i, j].item()
                if abs(w) > 5 * scale[i].item() and (w > 0) == (g < 0):  # levels end at 3 scales
                    expected[i, j] = 0
        assert torch.equal(found, expected)
        assert (found[0, 0] == 0) == (sign == -1)
        assert (found[1, 0] == 0) == (sign == 1)


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_training_moves_the_weights_behind(optimizer):
    student = quantise(toy_net(), 1)
    behind = student[4].parametrizations.weight.original.clone()
    result = fit(student, toy_data(), epochs=2, lr=0.02, batch_size=50, optimizer=optimizer)
    assert not torch.equal(student[4].parametrizations.weight.original, behind)
    assert all(len(channel.unique()) <= 2 for channel in student[4].weight)
    assert result.ok


@pytest.mark.parametrize("bits", [1, 2])
def test_a_student_of_few_bits_learns_from_a_guide(bits):
    teacher = toy_net(norm=True).eval()
    x = toy_data().train.batch(torch.arange(60))[0]
    guide = Guide.record(teacher, x)
    student = quantise(teacher, bits)
    distill(student, guide, x, steps=8, batch_size=20)
    assert all(len(channel.unique()) <= 2**bits for channel in student[4].weight)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_record_and_hold_see_activations_only(bits):
    model, x = quantise(toy_net(), bits), torch.randn(3, 1, 6, 6)
    support = record(model, x)
    assert support.sites == record(finish(model), x).sites
    plain = torch.autograd.grad(model(x).sum(), list(model.parameters()))
    with hold(model, support):
        held = torch.autograd.grad(model(x).sum(), list(model.parameters()))
    assert all(torch.equal(one, two) for one, two in zip(held, plain, strict=True))


def test_compiled():
    model, x = quantise(toy_net(), 2), torch.randn(3, 1, 6, 6)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    found = torch.autograd.grad(compiled(x).sum(), model[4].parametrizations.weight.original)
    known = torch.autograd.grad(model(x).sum(), model[4].parametrizations.weight.original)
    torch.testing.assert_close(found, known)


def test_finish_gives_a_plain_module_and_leaves_the_other_alone():
    model, x = toy_net(), torch.randn(3, 1, 6, 6)
    student = quantise(model, 2)
    plain = finish(student)
    assert [(k, v.shape) for k, v in plain.state_dict().items()] == [
        (k, v.shape) for k, v in model.state_dict().items()
    ]
    assert type(plain[4]) is nn.Conv2d
    assert torch.equal(plain(x), student(x))
    F.cross_entropy(plain(x), torch.tensor([0, 1, 2])).backward()
    assert plain[4].weight.grad is not None
    twin = copy.deepcopy(student)
    finish(student)
    assert torch.equal(twin(x), plain(x))


def test_finish_of_a_plain_model_is_a_copy():
    model, x = toy_net(), torch.randn(3, 1, 6, 6)
    assert torch.equal(finish(model)(x), model(x))


def test_what_cannot_be_quantised():
    with pytest.raises(SettingsError, match="1, 2 or 4, not 3"):
        quantise(toy_net(), 3)
    with pytest.raises(SettingsError, match="no layers between"):
        quantise(nn.Linear(3, 2), 1)
    with pytest.raises(SettingsError, match="remove the parametrisation"):
        quantise(quantise(toy_net(), 1), 1)
    with pytest.raises(SettingsError, match="no convolution"):
        quantise(nn.ReLU(), 1)


def test_a_parametrised_bias_is_refused():
    model = toy_net()
    nn.utils.parametrize.register_parametrization(model[4], "bias", nn.Identity())
    with pytest.raises(SettingsError, match="4 has a parametrisation already"):
        quantise(model, 1)
