import pytest
import torch
from PIL import Image

from tests.toy import toy_net, toy_tensors
from twostroke.data import PictureToTensor, from_tensors, preprocess
from twostroke.errors import SettingsError
from twostroke.report.explanation import explanation
from twostroke.report.subject import from_example, from_file


def data_of(x, y):
    return from_tensors(x, y, x, y)


def test_a_file_and_an_example_are_read_as_the_network_takes_them(tmp_path):
    x, y = toy_tensors(40)
    x = ((x + 3) * 40).clamp(0, 255).byte()
    data = data_of(x, y)
    Image.fromarray(x[7, 0].numpy()).save(tmp_path / "seven.png")
    subject = from_file(tmp_path / "seven.png", PictureToTensor.of(data))
    known = from_example(data, 7, data.test)
    torch.testing.assert_close(subject.x, known.x)
    torch.testing.assert_close(subject.shown, x[7] / 255)
    torch.testing.assert_close(known.shown, x[7] / 255)
    assert (subject.truth, known.truth) == (None, data.classes[int(y[7])])
    assert subject.zero == known.zero == "the mean pixel of the training images"
    plain = preprocess(data, "gcn")
    subject = from_file(tmp_path / "seven.png", PictureToTensor.of(plain, "gcn"))
    known = from_example(data, 7, plain.test)
    assert torch.equal(subject.x, known.x)
    assert subject.zero == known.zero == "a pixel that is 0 after preprocessing"


def test_contributions_are_slope_times_value_and_add_up(tmp_path):
    data = data_of(*toy_tensors(40))
    net, subject = toy_net(norm=True).double().eval(), from_example(data, 2, data.test)
    found = explanation(net, subject, data.classes, "1")
    x = subject.x.double()[None].requires_grad_()
    logit = net(x)[0, 1]
    (slope,) = torch.autograd.grad(logit, x)
    torch.testing.assert_close(found.pixels, (slope * x)[0].detach())
    logit = logit.item()
    assert float(found.pixels.sum()) + found.bias == pytest.approx(logit, abs=1e-10)
    rows = dict(found.sheet("toy").rows)
    assert float(rows["logit of the network"]) == pytest.approx(logit, abs=1e-6)
    found.draw(tmp_path / "a.png", "toy")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_a_class_is_meant_by_name_or_number_or_is_the_answer():
    data = data_of(*toy_tensors(40))
    net, subject = toy_net().double().eval(), from_example(data, 2, data.test)
    classes = ("a", "0", "c", "d")
    answer = int(net(subject.x.double()[None]).argmax())
    assert explanation(net, subject, classes).chosen == answer
    assert [explanation(net, subject, classes, t).chosen for t in ("c", "0", "3")] == [2, 1, 3]
    with pytest.raises(SettingsError, match="zebra: there are 4 classes"):
        explanation(net, subject, classes, "zebra")
