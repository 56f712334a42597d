"""Recording data sets, files of supports, and files for NumPy."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import twostroke as ts
from tests.toy import toy_data, toy_net
from twostroke.errors import DataError, SettingsError


class Stream(IterableDataset):
    """Inputs alone, one by one, of no length."""

    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return iter(self.x)


@pytest.fixture
def net():
    return toy_net(norm=True)  # in training mode


@pytest.fixture
def whole(net):
    x, _ = toy_data().train.batch(torch.arange(160))
    return x, ts.record(net.eval(), x)


def test_a_data_set_is_recorded_as_one_batch_would_be(net, whole):
    x, expected = whole
    data, y = toy_data(), torch.arange(160)
    net.train()
    for source in (data, data.train, TensorDataset(x, y), DataLoader(TensorDataset(x, y), 32)):
        assert ts.record(net, source, batch_size=50) == expected
    assert net.training
    assert ts.record(net.double(), data).sites == expected.sites


def test_a_stream_goes_to_a_file_that_load_reads(net, whole, tmp_path):
    x, expected = whole
    steps = []

    class Heard(ts.Listener):
        def step(self, where):
            steps.append((where.step, where.steps))

    file = tmp_path / "masks.support"
    assert ts.record(net, toy_data(), batch_size=64, out=file, listener=Heard()) == expected
    assert ts.Support.load(file) == expected
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert ts.record(net, DataLoader(Stream(x), 30), out=file) == expected
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_keys_are_taken_wherever_a_site_is_asked_for(whole):
    _, support = whole
    density = support.density().by_site
    assert density["2"] == density["2#0"] == density[support.sites[0]]
    assert support["2"].numpy().mean() == pytest.approx(density["2"])
    with pytest.raises(KeyError, match="choose among 2#0, 5#0"):
        density["3"]


def test_numpy_reads_what_is_exported(whole, tmp_path):
    x, support = whole
    support = ts.record(
        torch.nn.Sequential(torch.nn.ReLU6(), torch.nn.Conv2d(1, 1, 3), torch.nn.ReLU()), x
    )
    ts.study.export(support, tmp_path / "masks.npz")
    with np.load(tmp_path / "masks.npz") as file:
        for site in support.sites:
            shape = tuple(file[f"{site.key}/shape"])
            packed = file[site.key]
            planes = packed if packed.ndim == 3 else packed[None]
            for k, plane in enumerate(planes):
                bits = np.unpackbits(plane, axis=-1, count=int(np.prod(shape)), bitorder="little")
                expected = (support.pieces(site) >> k) & 1
                assert np.array_equal(bits.reshape(-1, *shape), expected.numpy())


def test_what_is_no_data_set_is_refused_in_words(net, whole, tmp_path):
    x, _ = whole
    with pytest.raises(DataError, match="shuffle=False"):
        ts.record(net, DataLoader(TensorDataset(x), 8, shuffle=True))
    with pytest.raises(DataError, match="begins with dict"):
        ts.record(net, DataLoader([{"x": row} for row in x], 8))
    with pytest.raises(DataError, match="no examples"):
        ts.record(net, DataLoader(Stream(x[:0]), 8))
    with pytest.raises(SettingsError, match="one mask to a whole batch"):
        ts.record(net, toy_data(), rule=ts.BatchEnergy(1.0))
    with pytest.raises(SettingsError, match="save"):
        ts.record(net, x, out=tmp_path / "x")
    with pytest.raises(SettingsError, match="batch_size"):
        ts.record(net, toy_data(), batch_size=0)
    assert not list(tmp_path.iterdir())
