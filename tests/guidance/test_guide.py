import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.toy import toy_data, toy_net, toy_tensors
from twostroke import data as tsdata
from twostroke import record
from twostroke.errors import DataError, SettingsError, SupportFileError, SupportMismatchError
from twostroke.guidance import Guide
from twostroke.guidance.above import above
from twostroke.training.listener import Listener


@pytest.fixture
def teacher():
    return toy_net(1, norm=True).eval()


@pytest.fixture
def x():
    return toy_tensors(30)[0]


def test_rows_are_the_recorded_supports_and_outputs_the_teacher_s(teacher, x):
    guide = Guide.record(teacher, x, batch_size=7)
    support = record(teacher, x)
    assert len(guide) == 30
    assert guide.sites == support.sites
    assert torch.equal(guide.rows, support.rows)
    assert torch.equal(guide[:].outputs, teacher(x))
    assert guide[3].support == support[3]
    assert guide[-1].support == support[29]
    assert guide[[4, 2]].support == support[[4, 2]]
    bytes_ = sum(math.ceil(site.units / 8) for site in support.sites)
    assert guide.nbytes == 30 * (bytes_ + 4 * 4)
    assert "30 images" in repr(guide)


def test_a_clamp_takes_one_bit_which_says_above_the_lower_edge():
    teacher = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(48, 4)).eval()
    x = 20 * toy_tensors(9)[0]
    guide = Guide.record(teacher, x)
    (site,) = guide.sites
    assert site.planes == 1
    assert torch.equal(guide[:].support[site], teacher[0](x) > 0)
    assert guide[:].support == above(record(teacher, x))


def test_chosen_sites_and_no_outputs(teacher, x):
    guide = Guide.record(teacher, x, sites=["5"], outputs=False)
    assert [site.key for site in guide.sites] == ["5#0"]
    assert guide[:].support == record(teacher, x).restrict(["5#0"])
    assert guide[0].outputs is None
    with pytest.raises(SettingsError, match=r"no site '9'; it has 2#0, 5#0"):
        Guide.record(teacher, x, sites=["9"])


def test_places_are_the_same_of_all_channels_and_drawn_by_seed(teacher, x):
    guide = Guide.record(teacher, x, places=5, seed=3)
    full = record(teacher, x)
    for site in guide.sites:
        index = guide.places[site.key]
        assert len(index) == 5
        assert index.sort().values.equal(index)
        told = guide[:]
        assert torch.equal(told.support[site.key], full[site.key].flatten(2)[:, :, index])
        assert told.places[site.key].equal(index)
    again, other = (Guide.record(teacher, x, places=5, seed=seed) for seed in (3, 4))
    assert torch.equal(again.rows, guide.rows)
    assert not all(other.places[k].equal(guide.places[k]) for k in guide.places)
    assert Guide.record(teacher, x, places=99).places == {}


def test_views_are_those_of_the_source(teacher):
    source = toy_data(augmentation=tsdata.FlipShift()).train
    guide = Guide.record(teacher, source, views=3, seed=5)
    which = torch.tensor([7, 2, 9])
    for view in range(3):
        shown, _ = source.batch(which, view=view, seed=5)
        assert guide.batch(which, view).support == record(teacher, shown)
    mixed = guide.batch(which, torch.tensor([2, 0, 1]))
    assert mixed.support[1] == guide.batch(which, 0).support[1]
    assert torch.equal(mixed.outputs[2], guide.batch(which, 1).outputs[2])
    with pytest.raises(
        SupportMismatchError, match="view 3 is not in this guide, which has 3 views"
    ):
        guide.batch(which, 3)
    with pytest.raises(SupportMismatchError, match="image 160"):
        guide.batch(torch.tensor([160]))
    with pytest.raises(SettingsError, match="not augmented"):
        Guide.record(teacher, toy_data().train, views=2)


def test_the_listener_hears_of_every_batch(teacher, x):
    heard = []

    class Ear(Listener):
        def step(self, where):
            heard.append((where.step, where.steps))

    Guide.record(teacher, x, batch_size=16, listener=Ear())
    assert heard == [(1, 2), (2, 2)]


def test_a_teacher_in_training_mode_is_refused(teacher, x):
    teacher[1].train()
    with pytest.raises(SettingsError, match=r"teacher \(1\) is in training mode.*eval\(\)"):
        Guide.record(teacher, x)


def test_a_teacher_without_sites_is_refused(x):
    with pytest.raises(SupportMismatchError, match="no ReLU"):
        Guide.record(nn.Sequential(nn.Flatten(), nn.Linear(36, 4)).eval(), x)


def test_wrong_preprocessing_is_refused_and_doubtful_one_told(teacher, x):
    teacher.train()
    for _ in range(200):
        teacher(x)
    teacher.eval()
    notes = []

    class Ear(Listener):
        def note(self, text):
            notes.append(text)

    Guide.record(teacher, x, listener=Ear())
    assert not notes
    Guide.record(teacher, 3 * x, listener=Ear())
    assert "preprocessed" in notes[0]
    with pytest.raises(DataError, match="not preprocessed as the teacher's were: at 1"):
        Guide.record(teacher, 255 * x)
    with pytest.raises(DataError, match="floating"):
        Guide.record(teacher, x.to(torch.uint8))


# -- what it belongs to ----------------------------------------------------------------------


def test_other_images_are_told_from_the_same_ones_scaled_otherwise(teacher, x):
    guide = Guide.record(teacher, x)
    guide.check(x.clone())
    with pytest.raises(SupportMismatchError, match="another order"):
        guide.check(x.flip(0))
    with pytest.raises(SupportMismatchError, match="preprocess"):
        guide.check(2 * x)
    with pytest.raises(SupportMismatchError, match="preprocess"):
        guide.check(x + 1)
    with pytest.raises(SupportMismatchError, match="30 images of 1×6×6, and these are 29"):
        guide.check(x[:29])


def test_labels_do_not_matter_to_a_guide(teacher):
    x, y = toy_tensors(40)
    guide = Guide.record(teacher, tsdata.Examples(x, y, mean=[0.0], std=[1.0]))
    guide.check(x)


def test_another_teacher_is_refused(teacher, x):
    guide = Guide.record(teacher, x)
    guide.check_teacher(toy_net(1, norm=True))
    with pytest.raises(SupportMismatchError, match="another teacher"):
        guide.check_teacher(toy_net(2, norm=True))


# -- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"outputs": False}, {"places": 4}, {"sites": ["2"]}])
def test_a_file_gives_back_what_was_saved(teacher, x, options, tmp_path):
    guide = Guide.record(teacher, x, **options)
    guide.save(tmp_path / "a.guide")
    back = Guide.load(tmp_path / "a.guide")
    assert back.sites == guide.sites
    assert torch.equal(back.rows, guide.rows)
    assert (back.outputs is None) == (guide.outputs is None)
    assert back.places.keys() == guide.places.keys()
    assert back.images == guide.images
    assert back.teacher == guide.teacher
    assert back[[5, 1]].support == guide[[5, 1]].support
    back.check(x)


def test_every_altered_byte_is_noticed(teacher, x, tmp_path):
    file = tmp_path / "a.guide"
    guide = Guide.record(teacher, x[:3])
    guide.save(file)
    good = file.read_bytes()
    draw = torch.Generator().manual_seed(0)
    for place in [*range(60), *torch.randint(len(good), (150,), generator=draw).tolist()]:
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        file.write_bytes(bad)
        try:
            back = Guide.load(file)
        except SupportFileError as error:
            told = str(error)
        else:  # white space in the outer header, for example
            told = f"{file}"
            assert torch.equal(back.rows, guide.rows)
        assert str(file) in told


def test_truncated_foreign_and_missing_files_are_refused(teacher, x, tmp_path):
    file = tmp_path / "a.guide"
    Guide.record(teacher, x).save(file)
    good = file.read_bytes()
    for size in (0, 5, len(good) // 2, len(good) - 1):
        file.write_bytes(good[:size])
        with pytest.raises(SupportFileError, match=r"a\.guide"):
            Guide.load(file)
    save_file({"rows": torch.zeros(3)}, file)
    with pytest.raises(SupportFileError, match="no checksum"):
        Guide.load(file)
    record(teacher, x).save(file)
    with pytest.raises(SupportFileError, match="no checksum"):
        Guide.load(file)
    with pytest.raises(SupportFileError, match="no such file"):
        Guide.load(tmp_path / "b.guide")
