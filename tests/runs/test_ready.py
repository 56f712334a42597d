"""What a run trained comes back with all that its use needs."""

import copy
import pickle

import pytest
import torch

import twostroke as ts
from tests.toy import toy_net
from twostroke.errors import RunFolderError
from twostroke.runs import About
from twostroke.runs.about import WHITENING


def saved(path, kind="none", **changes):
    """A run of allcnn-mini on small colour images, its model and its data."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (20, 3, 8, 8), generator=draw, dtype=torch.uint8)
    y = torch.arange(20) % 2
    data = ts.data.preprocess(ts.data.from_tensors(x, y, x, y, classes=["cat", "dog"]), kind)
    net = ts.models.create_model("allcnn-mini", classes=2).eval()
    about = About.of("allcnn-mini", data, preprocess=kind)
    ts.RunFolder(path).save_model(net, net, about)
    return net, data, x


@pytest.mark.parametrize("kind", ["none", "gcn", "gcn-zca"])
def test_a_model_comes_back_with_its_classes_and_its_preprocessing(tmp_path, kind):
    net, data, x = saved(tmp_path, kind)
    images, _ = data.test.batch(torch.arange(20))
    for path in (tmp_path, tmp_path / "average.safetensors"):
        model = ts.load(path)
        assert type(model) is type(net)
        assert not model.training
        assert model.classes == ("cat", "dog")
        assert torch.equal(model.preprocess.batch(x), images)
        assert torch.equal(model(images), net(images))
        assert model.state_dict().keys() == net.state_dict().keys()
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(again(again.preprocess.batch(x)), net(images))


def test_a_whitening_that_is_gone_is_named(tmp_path):
    saved(tmp_path, "gcn-zca")
    (tmp_path / WHITENING).unlink()
    with pytest.raises(RunFolderError, match=f"{WHITENING} is not beside its weights"):
        ts.load(tmp_path)


def test_what_is_no_finished_run_is_told(tmp_path):
    with pytest.raises(
        RunFolderError, match=r"no model\.safetensors: it is not the folder of a run"
    ):
        ts.load(tmp_path)
    with pytest.raises(RunFolderError, match="no such file"):
        ts.load(tmp_path / "nowhere")
    ts.RunFolder(tmp_path).save_model(toy_net())
    with pytest.raises(RunFolderError, match="does not say what its model is"):
        ts.load(tmp_path)
    net, *_ = saved(tmp_path)
    about = About("allcnn-a", ("a", "b"), (3, 8, 8))
    ts.RunFolder(tmp_path).save_model(net, about=about)
    with pytest.raises(RunFolderError, match=r"holds the weights of another model \(allcnn-a\)"):
        ts.load(tmp_path)


def test_a_header_that_asks_for_more_than_a_model_is_refused(tmp_path):
    about = About("timm/resnet18", ("a", "b"), (3, 8, 8), options={"pretrained": True})
    ts.RunFolder(tmp_path).save_model(toy_net(), about=about)
    with pytest.raises(RunFolderError, match="the option pretrained=True is not allowed"):
        ts.load(tmp_path)
