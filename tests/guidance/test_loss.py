import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.toy import toy_net, toy_tensors
from twostroke import HardThreshold, record
from twostroke.errors import NestedHoldError, SettingsError, SupportMismatchError
from twostroke.guidance import guided
from twostroke.guidance.above import above
from twostroke.guidance.pull import reference_pull

EDGES = [
    (nn.ReLU(), 0.0),
    (nn.ReLU(inplace=True), 0.0),
    (nn.ReLU6(), 0.0),
    (nn.ReLU6(inplace=True), 0.0),
    (nn.Hardtanh(-0.3, 0.5), -0.3),
    (nn.Hardtanh(-0.3, 0.5, inplace=True), -0.3),
    (nn.LeakyReLU(0.1), 0.0),
    (nn.PReLU(), 0.0),
    (nn.Threshold(0.3, 0.0), 0.3),
    (nn.Threshold(0.3, 0.0, inplace=True), 0.3),
    (HardThreshold(0.2), 0.2),
    (HardThreshold(torch.tensor([0.1, -0.2, 0.3])), torch.tensor([0.1, -0.2, 0.3]).view(3, 1, 1)),
]


@pytest.mark.parametrize(("activation", "edge"), EDGES, ids=lambda v: str(v)[:30])
def test_every_kind_of_site_is_pulled_about_its_lower_edge_and_computes_as_ever(activation, edge):
    def net(seed):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), copy.deepcopy(activation), nn.Flatten(), nn.Linear(48, 4)
        ).double()

    student, x = net(2), toy_tensors(5)[0].double()
    support = record(net(1), x)
    plain = student(x)
    with guided(student, support) as guidance:
        out = student(x)
    assert torch.equal(out, plain)

    conv = copy.deepcopy(student[0])
    expected = reference_pull(conv(x) - edge, above(support)[support.sites[0].key])
    found = guidance.loss()
    torch.testing.assert_close(found, expected, check_dtype=False)
    (out.sum() + found).backward()
    slope = student[0].weight.grad.clone()
    student.zero_grad()
    expected.backward()
    student(x).sum().backward()
    torch.testing.assert_close(slope, conv.weight.grad + student[0].weight.grad)


def test_descent_brings_a_fresh_net_to_the_teacher_s_sides():
    teacher, student = toy_net(1, norm=True).eval(), toy_net(2, norm=True)
    x, _ = toy_tensors(64)
    support = record(teacher, x)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        with guided(student, support) as guidance:
            student(x)
        loss = guidance.loss()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    student.train()
    assert record(student, x).drift(support) < 0.2


def test_the_loss_is_the_mean_over_sites_of_the_last_pass_alone():
    teacher, student = toy_net(1), toy_net(2)
    x, _ = toy_tensors(6)
    support = record(teacher, x)
    with guided(student, support) as guidance:
        student(torch.zeros_like(x))
        student(x)
    q = student[0](x)
    first = reference_pull(q, support[support.sites[0]])
    second = reference_pull(student[4](q.relu()), support[support.sites[1]])
    torch.testing.assert_close(guidance.loss(), (first + second) / 2)


def test_the_student_is_left_as_it_was():
    student = toy_net(2)
    x, _ = toy_tensors(6)
    support = record(toy_net(1), x)
    names = list(student.state_dict())
    with pytest.raises(SupportMismatchError, match="gives"), guided(student, support):
        student(x[:, :, :3])
    assert list(student.state_dict()) == names
    with guided(student, support), pytest.raises(NestedHoldError), guided(student, support):
        pass


def test_half_precision_and_channels_last():
    teacher, student = toy_net(1), toy_net(2)
    x, y = toy_tensors(6)
    support = record(teacher, x)
    with guided(student, support) as plain:
        student(x)
    student.to(memory_format=torch.channels_last)
    with (
        guided(student, support) as guidance,
        torch.autocast("cpu", torch.bfloat16),
    ):
        out = student(x.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(out, y) + guidance.loss()
    loss.backward()
    torch.testing.assert_close(guidance.loss(), plain.loss(), rtol=0.02, atol=0)
    assert all(p.grad.isfinite().all() for p in student.parameters())


def test_what_does_not_fit_is_refused_by_name():
    student = toy_net(2)
    x, _ = toy_tensors(6)
    support = record(toy_net(1), x)
    with (
        guided(student, support) as guidance,
        pytest.raises(SupportMismatchError, match="6 examples"),
    ):
        student(x[:5])
    with (
        guided(student, support) as guidance,
        pytest.raises(SupportMismatchError, match="did not come"),
    ):
        guidance.loss()
    other = nn.Sequential(nn.Conv2d(1, 7, 3), nn.Identity(), nn.ReLU())
    with (
        guided(student, record(other, x)),
        pytest.raises(SupportMismatchError, match=r"2#0 gives \(6, 6, 6\).*\(7, 4, 4\)"),
    ):
        student(x)
    with pytest.raises(SettingsError, match="margin"), guided(student, support, margin=0):
        pass
