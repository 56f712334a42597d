import pytest
import torch
from torch import nn

from tests.toy import toy_net
from twostroke import sites
from twostroke.errors import SettingsError, SupportMismatchError
from twostroke.guidance import pair

X = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def stages(*plan, size=6, kind=nn.ReLU):
    """Convolutions of (channels, stride) each, as one path after another."""
    layers, before = [], 1
    for channels, stride in plan:
        layers += [nn.Sequential(nn.Conv2d(before, channels, 3, stride, 1), kind())]
        before = channels
    return nn.Sequential(*layers)


def keys(pairs):
    return [(p.student.key, p.teacher.key, p.pool, p.connector is not None) for p in pairs]


def test_the_same_net_learns_by_name_and_without_connectors():
    teacher = toy_net(1)
    pairs = pair(toy_net(2), sites(teacher, X), X)
    assert keys(pairs) == [("2#0", "2#0", 1, False), ("5#0", "5#0", 1, False)]
    assert len(pairs.connectors) == 0


def test_chosen_sites_of_the_teacher_are_enough():
    teacher = toy_net(1)
    pairs = pair(toy_net(2), sites(teacher, X)[1:], X)
    assert keys(pairs) == [("5#0", "5#0", 1, False)]


def test_other_widths_learn_by_name_through_connectors():
    wide, narrow = stages((8, 1), (12, 2)), stages((8, 1), (5, 2))
    pairs = pair(narrow, sites(wide, X), X)
    assert keys(pairs) == [("0.1#0", "0.1#0", 1, False), ("1.1#0", "1.1#0", 1, True)]
    q = torch.randn(2, 5, 3, 3)
    assert pairs[1].carry(q).shape == (2, 12, 3, 3)
    (connector,) = pairs.connectors.values()
    assert connector is pairs[1].connector
    assert connector[0].bias is None


def test_another_net_learns_from_the_last_of_the_widest_sites_of_each_stage():
    teacher = stages((4, 1), (4, 1), (8, 2), (8, 1))
    student = stages((3, 1), (6, 2), (6, 1), (6, 1), (6, 1))
    pairs = pair(student, sites(teacher, X), X)
    assert keys(pairs) == [("0.1#0", "1.1#0", 1, True), ("4.1#0", "3.1#0", 1, True)]
    assert "1.1#0" in str(pairs)
    assert "connector" in str(pairs)


def test_the_narrow_head_of_the_next_bottleneck_does_not_stand_for_a_stage():
    teacher = stages((4, 1), (9, 1), (3, 1), (3, 2), (9, 1))
    student = stages((5, 1), (6, 2))
    pairs = pair(student, sites(teacher, X), X)
    assert [p.teacher.key for p in pairs] == ["1.1#0", "4.1#0"]


def test_pictures_of_one_pixel_are_no_smaller_view():
    gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.ReLU())
    teacher = nn.Sequential(*stages((4, 1)), gate)
    student = stages((3, 1), (5, 2))
    assert keys(pair(student, sites(teacher, X), X)) == [("0.1#0", "0.1#0", 1, True)]


def test_a_larger_picture_is_averaged():
    teacher, student = stages((4, 2), (4, 1)), stages((3, 1))
    (only,) = pair(student, sites(teacher, X), X)
    assert only.pool == 2
    assert only.carry(torch.randn(2, 3, 6, 6)).shape == (2, 4, 3, 3)
    assert "mean of 2×2" in str(pair(student, sites(teacher, X), X))


def test_flat_sites_take_a_linear_connector():
    def mlp(width):
        return nn.Sequential(nn.Flatten(), nn.Linear(36, width), nn.ReLU(), nn.Linear(width, 4))

    (only,) = pair(mlp(5), sites(mlp(9), X), X)
    assert only.carry(torch.randn(3, 5)).shape == (3, 9)


def test_what_the_user_says_overrules():
    teacher, student = stages((4, 1), (4, 1)), stages((4, 1), (4, 1))
    chosen = pair(student, sites(teacher, X), X, mapping={"0.1#0": "1.1#0"})
    assert keys(chosen) == [("0.1#0", "1.1#0", 1, True)]
    with pytest.raises(
        SupportMismatchError, match=r"student has no site 'a'; it has 0\.1#0, 1\.1#0"
    ):
        pair(student, sites(teacher, X), X, mapping={"a": "1.1#0"})
    with pytest.raises(SupportMismatchError, match="teacher has no site 'b'"):
        pair(student, sites(teacher, X), X, mapping={"0.1#0": "b"})
    with pytest.raises(SettingsError, match="empty"):
        pair(student, sites(teacher, X), X, mapping={})


def test_impossible_pairs_are_refused_by_name():
    small, large = stages((4, 2)), stages((4, 1))
    with pytest.raises(SupportMismatchError, match="4×3×3, the teacher's 4×6×6"):
        pair(small, sites(large, X), X)
    with pytest.raises(
        SupportMismatchError, match=r"0\.1#0 of 4×3×3 cannot learn from 0\.1#0 of 4×6×6"
    ):
        pair(small, sites(large, X), X, mapping={"0.1#0": "0.1#0"})
    with pytest.raises(SupportMismatchError, match="no ReLU"):
        pair(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), sites(large, X), X)


def test_the_student_stays_in_its_mode():
    student = toy_net(2, norm=True).train()
    before = {k: v.clone() for k, v in student.state_dict().items()}
    pair(student, sites(toy_net(1), X), X)
    assert student.training
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())
